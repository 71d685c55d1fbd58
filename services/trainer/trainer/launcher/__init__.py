"""The launcher: the one small process of an owner's node that may see the Docker socket.

It starts containers of one image, with one command and fixed options, for whoever holds its token; callers choose nothing. No API service
imports it, and nothing else imports Docker's SDK.
"""
