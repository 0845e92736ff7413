"""The status pages of the emulated server: settings, and what each page shows, which are written in one call and not in one step."""

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from reconciler.resource import JSONObject
from reconciler_uptime_kuma.dialect import Dialect
from reconciler_uptime_kuma.emulator.refusals import FOREIGN_KEY, Refused, complaint

ANALYTICS = ("google", "umami", "plausible", "matomo", "rybbit")


@dataclass(slots=True)
class Pages:
    """The table of status pages, number to settings, and their groups."""

    dialect: Dialect
    rows: dict[int, JSONObject] = field(default_factory=dict)
    groups: dict[int, list[JSONObject]] = field(default_factory=dict)
    _last: int = 0
    _last_group: int = 0

    def add(self, title: Any, given: Any) -> str:
        """Add an empty page and give its address as it is stored."""
        slug = str(given).strip().lower()
        _check(slug)
        if self.number(slug) is not None:
            columns = {"icon": "", "slug": slug, "theme": "auto", "title": title}
            columns |= {"auto_refresh_interval": 300} if self.dialect.modern else {}
            raise Refused(complaint("status_page", columns, "SQLITE_CONSTRAINT: UNIQUE constraint failed: status_page.slug"))
        self._last += 1
        self.rows[self._last] = {
            "id": self._last,
            "slug": slug,
            "title": title,
            "description": None,
            "icon": "/icon.svg",
            "theme": "auto",
            "published": True,
            "showTags": False,
            "domainNameList": [],
            "customCSS": None,
            "footerText": None,
            "showPoweredBy": True,
            "showCertificateExpiry": False,
            **self.dialect.page,
        }
        self.groups[self._last] = []
        return slug

    def number(self, slug: Any) -> int | None:
        """Find a page by its address."""
        return next((id for id, row in self.rows.items() if row["slug"] == slug), None)

    def get(self, slug: Any) -> JSONObject:
        """Give the settings of a page."""
        id = self.number(slug)
        if id is None:
            raise Refused("No slug?")
        return self.rows[id]

    def save(self, slug: Any, config: JSONObject, icon: str, groups: list[JSONObject], monitors: Collection[int]) -> list[JSONObject]:
        """Write a page. An unknown monitor is refused when the settings and some groups are already written."""
        row = self.get(slug)
        _check(str(config.get("slug")))
        if self.dialect.modern and config.get("analyticsType") not in (None, *ANALYTICS):
            raise Refused("Invalid analytics type")
        fixed = ("id", "published", "icon")
        row |= {key: value for key, value in config.items() if key in row and key not in fixed} | {"icon": icon or "/icon.svg"}
        row["domainNameList"] = sorted(one for one in config.get("domainNameList") or () if one.strip())
        kept: list[JSONObject] = []
        before = {group["id"]: group for group in self.groups[row["id"]]}
        for given in groups:
            group = before.get(given.get("id")) or {"id": self._group()}
            before[group["id"]] = group
            group |= {"name": given["name"], "monitorList": []}
            self.groups[row["id"]] = list(before.values())
            for weight, one in enumerate(given["monitorList"], 1):
                if one["id"] not in monitors:
                    columns = {"group_id": group["id"], "monitor_id": one["id"], "weight": weight}
                    raise Refused(complaint("monitor_group", columns, FOREIGN_KEY))
                group["monitorList"].append({"id": one["id"], "sendUrl": int(bool(one.get("sendUrl")))})
            kept.append(group)
        self.groups[row["id"]] = kept
        return [{**given, "id": group["id"]} for given, group in zip(groups, kept, strict=True)]

    def delete(self, slug: Any) -> int:
        """Delete a page and give the number it had."""
        id = self.number(slug)
        if id is None:
            raise Refused("Status Page is not found")
        del self.rows[id], self.groups[id]
        return id

    def forget(self, monitor: int) -> None:
        """Take a deleted monitor off every page."""
        for groups in self.groups.values():
            for group in groups:
                group["monitorList"] = [one for one in group["monitorList"] if one["id"] != monitor]

    def public(self, slug: str, monitors: dict[int, JSONObject]) -> JSONObject | None:
        """Give what everybody may read; None when there is no such page."""
        id = self.number(slug)
        if id is None:
            return None
        hidden = ("id", "domainNameList")
        shown = [
            {
                "id": group["id"],
                "name": group["name"],
                "weight": weight,
                "monitorList": [{**one, **_shown(monitors[one["id"]], bool(one["sendUrl"]))} for one in group["monitorList"]],
            }
            for weight, group in enumerate(self.groups[id], 1)
        ]
        news: JSONObject = {"incidents": []} if self.dialect.modern else {"incident": None}
        config = {key: value for key, value in self.rows[id].items() if key not in hidden}
        return {"config": config, **news, "publicGroupList": shown, "maintenanceList": []}

    def _group(self) -> int:
        self._last_group += 1
        return self._last_group


def _shown(row: JSONObject, linked: bool) -> JSONObject:
    return {"name": row["name"], "type": row["type"], **({"url": row["url"]} if linked else {})}


def _check(slug: str) -> None:
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug):
        raise Refused("Invalid Slug")
