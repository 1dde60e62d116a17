"""What decodes in the place of this machine's own loop where a study is large: vLLM and Ray, both optional."""
