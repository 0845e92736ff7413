"""What the README shows must be what the program takes."""

import re
from pathlib import Path

import yaml

from reconciler.registry import catalog
from reconciler.settings import Settings

ROOT = Path(__file__).parents[2]


def test_the_settings_in_the_readme_are_settings() -> None:
    blocks = re.findall(r"```yaml\n(instance:.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 1
    settings = Settings(**yaml.safe_load(blocks[0]))
    assert len(settings.targets) == 5
    for name, config in settings.targets.items():
        catalog().plugin(name).config.model_validate(config)
