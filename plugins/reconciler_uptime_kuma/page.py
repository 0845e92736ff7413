"""Status pages: what a person may wish, what Uptime Kuma stores of it, and back. Pure.

Incidents are news that people write, and no wish: they are left alone.
"""

import re
from collections.abc import Collection
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from reconciler.errors import Permanent
from reconciler.resource import JSONObject, ResourceId
from reconciler_uptime_kuma import marks
from reconciler_uptime_kuma.dialect import PAGE_EXTRAS, PAGE_EXTRAS_2, Dialect
from reconciler_uptime_kuma.named import DRIVER, Human, Named, Names
from reconciler_uptime_kuma.native import Links

ICON = "/icon.svg"
DEFAULTS = {**PAGE_EXTRAS, **PAGE_EXTRAS_2}


def _slug(value: str) -> str:
    value = value.strip().lower()
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", value):
        raise ValueError(f"{value!r} cannot be part of an address; use small letters, digits and single dashes")
    return value


class Group(BaseModel):
    """One heading of a status page and the monitors below it, in order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, description="The heading.")
    monitors: list[str] = Field(default=[], description="Names of the Monitors, in order; also the title of one made by hand.")
    linked: Names = Field(default=[], description="Those of them whose address is shown as a link.")

    @model_validator(mode="after")
    def _links_what_it_shows(self) -> Self:
        if wrong := sorted(set(self.linked) - set(self.monitors)):
            raise ValueError(f"linked names {wrong[0]!r}, which is not among its monitors")
        if twice := sorted({one for one in self.monitors if self.monitors.count(one) > 1}):
            raise ValueError(f"shows {twice[0]!r} twice; keep one of the two")
        return self


class StatusPage(Named):
    """One page that tells everybody how monitors fare, at ``/status/<slug>``."""

    slug: Annotated[str, AfterValidator(_slug)] = Field(
        default="", description="The last part of its address; the resource's name when left out."
    )
    description: str = Field(default="", description="Text below the title, in Markdown.")
    theme: Literal["auto", "light", "dark"] = Field(default="auto", description="Colours; auto follows the reader's system.")
    icon: str = Field(default=ICON, description="Address of the picture beside the title.")
    groups: list[Group] = Field(default=[], description="What it shows, in order: headings with the monitors below each.")
    domains: Names = Field(default=[], description="Host names at which this page is what one sees first.")
    show_tags: bool = Field(default=False, description="Whether everybody sees the tags of the monitors.")
    show_certificate_expiry: bool = Field(default=False, description="Whether it says until when certificates are valid.")
    show_powered_by: bool = Field(default=True, description="Whether it names Uptime Kuma at the bottom.")
    footer: str = Field(default="", description="Text at the bottom, in Markdown.")
    custom_css: Human = Field(default="", description="Style sheet; our mark is added to it as a comment.")
    extra: dict[str, Any] = Field(
        default_factory=dict, description="Further settings by their own names, e.g. autoRefreshInterval, analyticsType; most need 2.x."
    )

    @classmethod
    def _derive(cls, data: dict[str, Any], name: str) -> dict[str, Any]:
        return data if data.get("slug") else {**data, "slug": re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")}

    @model_validator(mode="after")
    def _knows_its_extras(self) -> Self:
        for key in self.extra:
            if key not in DEFAULTS:
                close = get_close_matches(key, DEFAULTS, n=1)
                raise ValueError(f"extra.{key} is no setting of a status page" + (f"; did you mean {close[0]}?" if close else ""))
        names = [group.name for group in self.groups]
        if twice := sorted({one for one in names if names.count(one) > 1}):
            raise ValueError(f"two groups are called {twice[0]!r}; rename one of them")
        return self

    def stands_for(self) -> str:
        """Name it by its address, of which there is one."""
        return f"StatusPage {self.slug}"

    def requires(self, name: str) -> tuple[ResourceId, ...]:
        """Come after the monitors that it shows."""
        return tuple(ResourceId(DRIVER, "Monitor", one) for group in self.groups for one in group.monitors)


COLUMNS = {
    "slug": "slug",
    "title": "title",
    "description": "description",
    "theme": "theme",
    "icon": "icon",
    "show_tags": "showTags",
    "show_certificate_expiry": "showCertificateExpiry",
    "show_powered_by": "showPoweredBy",
    "footer": "footerText",
}
"""The setting behind each field that is copied as it is."""


def config(spec: StatusPage, tag: marks.Tag, before: JSONObject, dropped: Collection[str], dialect: Dialect) -> JSONObject:
    """Give the settings that ``saveStatusPage`` takes, those that git ``dropped`` at their defaults.

    Raises Permanent for one that this dialect has not.
    """
    for key in spec.extra:
        if key not in dialect.page:
            other = "2.x" if key in PAGE_EXTRAS_2 else "1.23"
            raise Permanent(f"extra.{key} needs Uptime Kuma {other}, and this one is {dialect.name}; leave it out")
    kept = {key: value for key, value in before.items() if key != "groups" and key not in dropped}
    ours = {column: getattr(spec, field) for field, column in COLUMNS.items()}
    css = {"customCSS": marks.join(spec.custom_css, tag.css()), "domainNameList": list(spec.domains)}
    return {**dialect.page, **kept, **ours, **css, **spec.extra}


def groups(spec: StatusPage, before: JSONObject, links: Links, id: ResourceId) -> list[JSONObject]:
    """Give the groups that ``saveStatusPage`` takes; one that keeps its heading keeps its number. Raises Permanent for an unknown name."""
    numbers = {group["name"]: group["id"] for group in before.get("groups", ())}
    return [
        {
            **({"id": numbers[group.name]} if group.name in numbers else {}),
            "name": group.name,
            "monitorList": [
                {"id": number, "sendUrl": name in group.linked}
                for name, number in zip(group.monitors, links.monitor_ids(group.monitors, id), strict=True)
            ],
        }
        for group in spec.groups
    ]


def live(row: JSONObject, wanted: StatusPage | None, tag: marks.Tag | None, links: Links) -> JSONObject:
    """Give the canonical form of a live page; ``row`` has ``groups`` beside its settings."""
    shown = [(group, [links.parent(one["id"]) for one in group["monitorList"]]) for group in row["groups"]]
    keys = {*(wanted.extra if wanted is not None else ()), *(tag.keys if tag is not None else ())} & row.keys()
    wishes = wanted.extra if wanted is not None else {}
    return {
        **{field: row.get(column) for field, column in COLUMNS.items()},
        **{field: str(row.get(COLUMNS[field]) or "") for field in ("title", "description", "footer")},
        "groups": [
            {
                "name": group["name"],
                "monitors": names,
                "linked": sorted(name for name, one in zip(names, group["monitorList"], strict=True) if one.get("sendUrl")),
            }
            for group, names in shown
        ],
        "domains": sorted(row.get("domainNameList") or ()),
        "custom_css": marks.split(row.get("customCSS"))[0],
        "extra": {key: row[key] for key in sorted(keys) if key in wishes or row[key] != DEFAULTS.get(key)},
    }
