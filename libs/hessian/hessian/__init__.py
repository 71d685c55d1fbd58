"""What services share. The version stands here and not only in the package's metadata: an image holds these modules without any."""

__version__ = "0.1.0"
