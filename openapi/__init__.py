"""The API's published description, `openapi.json`: generated from the models and the table of routes.

No function loads it. The tests hold every answer of the functions against it.
"""
