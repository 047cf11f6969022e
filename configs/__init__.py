"""The config files; they ship as `smca.configs`.

This file makes the folder a regular package, which editable installs need to find it.
"""
