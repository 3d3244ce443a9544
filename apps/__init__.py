"""Example applications, written as anybody would: nothing in them knows its server."""
