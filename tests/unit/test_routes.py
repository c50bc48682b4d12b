"""A route is in three places, which agree on its method, path, function and scope.

- template.yaml: SAM wants an event for each route. `sam validate`, `sam local` and the local host read them there.
- `ROUTES` of a function: each route needs the Python function that answers it.
- `openapi.ROUTES`: each route needs its texts and the models of its answers, which no function loads.

No place can be derived from another without generating source code, so this test compares all three.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from local.template import TemplateSource
from openapi.document import AUDIENCES
from openapi.routes import ROUTES
from tests.published import DOCUMENT
from tests.unit.service import Service

ROOT = Path(__file__).parents[2]
#: By the scope that a route's token needs; a route without one is open to every caller.
FUNCTIONS = {"messages": "IntakeFunction", "admin": "AdminFunction", None: "AdminFunction"}
#: A client may wait for its answer. So no such route is intake's.
WAITING = "StatusFunction"

#: By (method, path): the function, and the scope with the name of its resource server.
Routes = dict[tuple[str, str], tuple[str, str | None]]


def of_resource_server(scope: str | None) -> str | None:
    """A scope as a token names it."""
    return f"message-handler/{scope}" if scope else None


def routes_of_the_template() -> Routes:
    routes: Routes = {}
    for route in TemplateSource(ROOT / "template.yaml").resolve({}, "http://127.0.0.1/").routes:
        (scope,) = route.scopes or (None,)
        routes[route.method, route.path] = (route.function, scope)
    return routes


def routes_of_the_functions(service: Service) -> Routes:
    routes: Routes = {}
    for name, module in service.functions.items():
        for route in getattr(module, "ROUTES", ()):
            is_open = route in getattr(module, "OPEN_ROUTES", ())
            routes[route] = (f"{name.title()}Function", of_resource_server(None if is_open else module.SCOPE))
    return routes


def routes_of_the_description() -> Routes:
    return {
        (route.method, route.path): (
            WAITING if "wait" in route.query else FUNCTIONS[route.scope],
            of_resource_server(route.scope),
        )
        for route in ROUTES
    }


@pytest.fixture
def routes(service: Service) -> Routes:
    return routes_of_the_functions(service)


def test_each_route_of_the_template_is_served_by_its_function_and_no_other_is(routes: Routes) -> None:
    assert routes_of_the_template() == routes


def test_each_route_that_a_function_serves_is_described_with_its_scope_and_no_other_is(routes: Routes) -> None:
    assert routes_of_the_description() == routes


def test_each_published_operation_has_the_scope_and_the_tag_of_its_audience(routes: Routes) -> None:
    tags = {of_resource_server(scope): audience.name for scope, audience in AUDIENCES.items()}
    published = {
        (method.upper(), path): (operation["security"], operation["tags"])
        for path, operations in DOCUMENT["paths"].items()
        for method, operation in operations.items()
    }
    assert published == {
        route: ([{"token": [scope]}] if scope else [], [tags[scope]]) for route, (_, scope) in routes.items()
    }
