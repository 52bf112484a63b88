"""How a route is added: always with the role that it needs, which the OpenAPI document tells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import HTMLResponse

from gateway.admin.access import needs
from gateway.domain.roles import Role

LARGEST_ID = 2**63 - 1  # the largest row id that the databases have: a larger one is an error of theirs

RowId = Annotated[int, Path(ge=1, le=LARGEST_ID)]
PageKey = Annotated[str, Query(max_length=200, description="where a page of a list lies: as the answer before gave it")]
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


class Routes(APIRouter):
    """Routes for somebody with a role; there is no way to add one without."""

    def page(self, path: str, role: Role = Role.VIEWER) -> Callable[[Endpoint], Endpoint]:
        """A page or a part of one."""
        return self._add("GET", path, role, response_class=HTMLResponse, tags=["pages"])

    def act(self, path: str, role: Role) -> Callable[[Endpoint], Endpoint]:
        """What a form of a page posts to."""
        return self._add("POST", path, role, response_class=HTMLResponse, tags=["pages"])

    def api(self, method: str, path: str, role: Role = Role.VIEWER, **options: Any) -> Callable[[Endpoint], Endpoint]:
        """An operation of the REST API."""
        return self._add(method, f"/api/v1{path}", role, **options)

    def _add(self, method: str, path: str, role: Role, **options: Any) -> Callable[[Endpoint], Endpoint]:
        return self.api_route(
            path,
            methods=[method],
            dependencies=[Depends(needs(role))],
            openapi_extra={"x-role": role.value},
            responses={401: {"description": "nobody is logged in"}, 403: {"description": "the role is not enough"}},
            **options,
        )
