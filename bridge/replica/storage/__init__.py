"""The subnet on disk: one directory, one process, whole after any end of the process.

What a client has a certificate for is in the directory before the certificate is signed.
``directory`` knows files, ``database`` knows tables, ``keeper`` what of the subnet goes into which.
"""
