"""What Slack demands of a message: the limits of Block Kit, named by Slack's own words and pointers. Pure.

Source of the limits: docs.slack.dev/reference/block-kit and docs.slack.dev/reference/methods/chat.postMessage. Only the kinds of block that
are used here are known; any other is refused, so that a test notices it.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

TEXT_HARD = 40_000
BLOCKS = 50
Path = str


def blocks_faults(blocks: Any) -> list[str]:
    """List what is wrong with the blocks of a message, each as Slack says it; empty when they are right."""
    if not isinstance(blocks, list):
        return ["must provide an array [json-pointer:/blocks]"]
    if len(blocks) > BLOCKS:
        return [f"no more than {BLOCKS} items allowed [json-pointer:/blocks]"]
    found = [fault for number, block in enumerate(blocks) for fault in _block(block, f"/blocks/{number}")]
    named = [str(block["block_id"]) for block in blocks if isinstance(block, Mapping) and "block_id" in block]
    return found + (["block_id must be unique [json-pointer:/blocks]"] if len(set(named)) < len(named) else [])


def message_fault(message: Any) -> str:
    """Name what is wrong with a message in Slack's words; nothing when it is right."""
    if not isinstance(message, Mapping):
        return "invalid_payload"
    blocks, attachments, text = message.get("blocks", []), message.get("attachments", []), message.get("text", "")
    if blocks_faults(blocks):
        return "invalid_blocks"
    if len(attachments) > 100:
        return "too_many_attachments"
    if isinstance(text, str) and len(text) > TEXT_HARD:
        return "msg_too_long"
    return "" if text or blocks or attachments else "no_text"


def _block(block: Any, at: Path) -> Iterator[str]:
    if not isinstance(block, Mapping):
        yield f"must be an object [json-pointer:{at}]"
        return
    if len(str(block.get("block_id", ""))) > 255:
        yield f"must be less than 256 characters [json-pointer:{at}/block_id]"
    known = KINDS.get(str(block.get("type")))
    if known is None:
        yield f"unsupported type: {block.get('type')} [json-pointer:{at}/type]"
        return
    unknown = set(block) - {"type", "block_id"} - FIELDS[str(block["type"])]
    yield from (f"invalid additional property: {name} [json-pointer:{at}]" for name in sorted(unknown))
    yield from known(block, at)


def _text(value: Any, limit: int, at: Path, kinds: tuple[str, ...] = ("plain_text", "mrkdwn")) -> Iterator[str]:
    """Check a text object: its type, and that there is some text and not too much."""
    if not isinstance(value, Mapping) or value.get("type") not in kinds or not isinstance(value.get("text"), str):
        yield f"must be a {' or '.join(kinds)} object [json-pointer:{at}]"
    elif not value["text"]:
        yield f"must be more than 0 characters [json-pointer:{at}/text]"
    elif len(value["text"]) > limit:
        yield f"must be less than {limit + 1} characters [json-pointer:{at}/text]"


def _header(block: Mapping[str, Any], at: Path) -> Iterator[str]:
    yield from _text(block.get("text"), 150, f"{at}/text", ("plain_text",))


def _section(block: Mapping[str, Any], at: Path) -> Iterator[str]:
    fields = block.get("fields", [])
    if block.get("text") is None and not fields:
        yield f"missing required field: text or fields [json-pointer:{at}]"
    if block.get("text") is not None:
        yield from _text(block["text"], 3000, f"{at}/text")
    if len(fields) > 10:
        yield f"no more than 10 items allowed [json-pointer:{at}/fields]"
    for number, one in enumerate(fields):
        yield from _text(one, 2000, f"{at}/fields/{number}")


def _context(block: Mapping[str, Any], at: Path) -> Iterator[str]:
    elements = block.get("elements", [])
    if not 0 < len(elements) <= 10:
        yield f"between 1 and 10 items allowed [json-pointer:{at}/elements]"
    for number, one in enumerate(elements):
        yield from _text(one, 3000, f"{at}/elements/{number}")


def _actions(block: Mapping[str, Any], at: Path) -> Iterator[str]:
    elements = block.get("elements", [])
    if not 0 < len(elements) <= 25:
        yield f"between 1 and 25 items allowed [json-pointer:{at}/elements]"
    ids = [one.get("action_id") for one in elements if isinstance(one, Mapping)]
    if len(set(ids)) < len(ids):
        yield f"`action_id` already exists [json-pointer:{at}/elements]"
    for number, one in enumerate(elements):
        yield from _button(one, f"{at}/elements/{number}")


def _button(one: Any, at: Path) -> Iterator[str]:
    if not isinstance(one, Mapping) or one.get("type") != "button":
        yield f"unsupported type [json-pointer:{at}/type]"
        return
    yield from _text(one.get("text"), 75, f"{at}/text", ("plain_text",))
    for name, limit in (("value", 2000), ("action_id", 255), ("url", 3000)):
        if len(str(one.get(name, ""))) > limit:
            yield f"must be less than {limit + 1} characters [json-pointer:{at}/{name}]"
    if one.get("style") not in (None, "primary", "danger"):
        yield f"must be primary or danger [json-pointer:{at}/style]"
    if (asked := one.get("confirm")) is not None:
        for name, limit in (("title", 100), ("text", 300), ("confirm", 30), ("deny", 30)):
            kinds = ("plain_text", "mrkdwn") if name == "text" else ("plain_text",)
            yield from _text(asked.get(name), limit, f"{at}/confirm/{name}", kinds)


def _rich(block: Mapping[str, Any], at: Path) -> Iterator[str]:
    elements = block.get("elements", [])
    if not elements:
        yield f"must have at least 1 item [json-pointer:{at}/elements]"
    for number, one in enumerate(elements):
        inner = one.get("elements", []) if isinstance(one, Mapping) and one.get("type") == "rich_text_preformatted" else []
        if not inner or not all(text.get("type") == "text" and text.get("text") for text in inner):
            yield f"unsupported element [json-pointer:{at}/elements/{number}]"


def _divider(block: Mapping[str, Any], at: Path) -> Iterator[str]:
    yield from ()


KINDS: Mapping[str, Callable[[Mapping[str, Any], Path], Iterator[str]]] = {
    "header": _header,
    "section": _section,
    "context": _context,
    "actions": _actions,
    "rich_text": _rich,
    "divider": _divider,
}
FIELDS: Mapping[str, set[str]] = {
    "header": {"text"},
    "section": {"text", "fields"},
    "context": {"elements"},
    "actions": {"elements"},
    "rich_text": {"elements"},
    "divider": set(),
}
