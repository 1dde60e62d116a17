"""The library in other people's tools."""
