"""The web page of `unclip demo`. Only this folder needs gradio, the extra `demo`."""
