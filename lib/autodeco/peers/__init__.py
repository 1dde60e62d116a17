"""What AutoDeco is compared with."""
