"""What is examined: a machine, and maybe a recipe with its data, checkpoints and run folder. Read when first asked for, and once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from medchatzh import prompt
from medchatzh import recipe as recipes
from medchatzh.doctor.folder import Folder, num_parameters
from medchatzh.doctor.machine import Machine
from medchatzh.records import Dialogue, Question, Record

if TYPE_CHECKING:
    from medchatzh.doctor.sample import Sampled
    from medchatzh.pipeline import Recipe
    from medchatzh.train.optimization import Optimization

R = TypeVar("R", bound=Record)


class Subject:
    """Everything that checks look at."""

    def __init__(self, machine: Machine, path: Path | None = None, overrides: Sequence[str] = (), runs: Path = Path("runs")) -> None:
        self.machine = machine
        self.path = path
        self.problem = ""
        """Why the recipe cannot be read."""
        self._recipe: Recipe | None = None
        if path:
            from medchatzh.pipeline import Recipe

            try:
                self._recipe = recipes.convert(recipes.override(recipes.load_toml(path), overrides), Recipe, str(path))
            except ValueError as error:
                self.problem = str(error)
        self.runs = runs
        if path and self._recipe:
            self.runs = runs / (self._recipe.run.name or path.stem)

    @property
    def has_recipe(self) -> bool:
        return self._recipe is not None

    @property
    def recipe(self) -> Recipe:
        assert self._recipe
        return self._recipe

    @cached_property
    def training(self) -> dict[str, Optimization]:
        """Stage → settings, of the stages that train."""
        from medchatzh.train.optimization import Optimization

        found = {name: getattr(self.recipe, name) for name in self.recipe.__struct_fields__}
        return {name: config for name, config in found.items() if isinstance(config, Optimization) and config.epochs}

    # ---- checkpoints

    @cached_property
    def folders(self) -> dict[str, Folder]:
        """Setting → folder, of all checkpoints that the recipe names; the folders need not be there."""
        recipe = self.recipe
        named = {"pretrain.base": recipe.pretrain.base, "tokenizer.path": recipe.tokenizer.path, "reward.base": recipe.reward.base}
        named |= {f"exam.checkpoints.{name}": path for name, path in recipe.exam.checkpoints.items()}
        named |= {f"systems.{given.name}.model": given.model for given in recipe.systems}
        return {setting: Folder(setting, Path(path).expanduser()) for setting, path in named.items() if path}

    @property
    def base(self) -> Folder | None:
        """The checkpoint that training goes on from."""
        return self.folders.get("pretrain.base")

    @cached_property
    def tokenizer_problem(self) -> str:
        """Why `tokenizer` is None though a tokenizer is there; '' where it can be loaded, or is still to be trained."""
        return self._tokenizer[1]

    @property
    def tokenizer(self) -> Any:
        """The tokenizer that training will use: the given one, or the one that the run has trained. None where neither is there."""
        return self._tokenizer[0]

    @cached_property
    def _tokenizer(self) -> tuple[Any, str]:
        from medchatzh import models

        given = self.folders.get("tokenizer.path")
        folder = given.path if given else self.made("tokenizer")
        if folder is None or not folder.is_dir():
            return None, ""
        try:
            return models.load_tokenizer(folder)[0], ""
        except ValueError as error:
            return None, str(error)

    @property
    def template(self) -> prompt.Template:
        """What dialogues will be trained with."""
        return prompt.template(self.recipe.tokenizer.template)

    @cached_property
    def num_parameters(self) -> int:
        """Of the model that is trained; 0 where its config.json does not tell."""
        if self.base:
            return num_parameters(self.base.config)
        if self.recipe.pretrain.base:
            return 0
        return num_parameters(self.shape, len(self.tokenizer) if self.tokenizer else self.recipe.tokenizer.vocab_size)

    @cached_property
    def shape(self) -> dict[str, Any]:
        """The model's dimensions under the names of config.json."""
        if self.base:
            return self.base.config
        made = self.recipe.pretrain.architecture
        return {
            "hidden_size": made.hidden_size,
            "num_hidden_layers": made.num_layers,
            "num_attention_heads": made.num_heads,
            "intermediate_size": made.intermediate_size,
            "max_position_embeddings": made.max_positions,
            "tie_word_embeddings": made.tie_embeddings,
            "vocab_size": self.recipe.tokenizer.vocab_size,
        }

    # ---- data

    def made(self, stage: str) -> Path | None:
        """The newest finished folder of a stage that was made with the settings it has now."""
        from medchatzh.run import MANIFEST, read_manifest

        wanted = msgspec.json.decode(msgspec.json.encode(getattr(self.recipe, stage)))
        found = sorted(self.runs.glob(f"{stage}-*/{MANIFEST}"), key=lambda path: -path.stat().st_mtime_ns)
        return next((path.parent for path in found if read_manifest(path.parent).config == wanted), None)

    @cached_property
    def sources(self) -> list[Sampled]:
        """Some records of each raw source; none where the data folder is not there."""
        from medchatzh.doctor.sample import sample

        return [] if self.root is None else sample(self.recipe.ingest, self.root)

    @cached_property
    def root(self) -> Path | None:
        """The data folder; None where it is none."""
        assert self.path
        try:
            return recipes.resolve_root(self.recipe.data.root, self.path)
        except ValueError:
            return None

    def raw(self, kind: type[R]) -> list[R]:
        """The sampled raw records of a kind."""
        return [record for source in self.sources for record in source.of(kind)]

    @cached_property
    def mix(self) -> Path | None:
        return self.made("mix")

    @cached_property
    def dialogues(self) -> list[Dialogue]:
        """What SFT is to learn from: of the run's mix, where it is there, else of the raw sources (curation drops some of those)."""
        from medchatzh.doctor.sample import lines

        found = lines(self.mix / "train.jsonl", Dialogue, 2000) if self.mix else self.raw(Dialogue)
        return [dialogue for dialogue in found if dialogue.pool in self.recipe.sft.pools]

    @cached_property
    def questions(self) -> list[Question]:
        """Of the benchmark: all that the run has read, or a sample."""
        from medchatzh.doctor.sample import lines

        read = self.made("ingest")
        return lines(read / "questions.jsonl", Question) if read else self.raw(Question)

    @property
    def dialogues_from(self) -> str:
        return str(self.mix / "train.jsonl") if self.mix else "ingest.sources (a sample)"
