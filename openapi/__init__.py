"""The API's published description, `openapi.json`: generated from the models and the table of routes. Nothing of it is
deployed; the tests hold every answer of the functions against it.
"""
