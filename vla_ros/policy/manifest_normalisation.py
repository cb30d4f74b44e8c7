"""The manifest's normalisation: between the network's numbers and SI units."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictBool, model_validator

from vla_ros.policy.manifest_model import Model

Kind = Literal["q01_q99", "min_max", "mean_std"]
Format = Literal["dataset_statistics", "norm_stats", "lerobot", "gr00t"]


class Part(Model):
    """A run of entries whose statistics stand under a name of their own. name: its path below the key, such
    as `state.left_arm` or `relative_action.left_arm` of GR00T; kind: where it is not that of the vector."""

    name: str
    kind: Kind | None = None


class BinaryColumns(Model):
    """Columns that count as 1 from 0.5 on and as `below` under it, while they are normalised (StarVLA)."""

    columns: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    below: Literal[-1, 0]


class Bins(Model):
    """Action tokens of a language model; see `vla_ros.action.bins.ActionBins`."""

    count: Annotated[int, Field(ge=2)]
    # A chunk holds float32, in which larger ones are no longer told apart.
    token_offset: Annotated[int, Field(gt=0, le=2**24)]
    counts_down: bool


class VectorNormalisation(Model):
    """How one vector is normalised, and from which statistics; `kind: none` says that it is not.

    file, format, key: where the statistics are, read as their project wrote them:
        dataset_statistics  OpenVLA, StarVLA; key is the unnorm_key; the file's `mask` says what is scaled
        norm_stats          openpi's norm_stats.json; key is `state` or `actions`
        lerobot             meta/stats.json, meta/episodes_stats.jsonl or the normaliser's .safetensors file;
                            key is the feature, `action` or `observation.state`
        gr00t               statistics.json; key is the embodiment tag, and `parts` its groups in order
    clip: limit to -clip..clip while normalised, in both directions; false for none. Not of mean_std.
    constant: what an entry that never varied in training is shown as, normalised: `zero`, `minus_one` or the
        `same` value; `refuse` (the default) takes no such statistics.
    epsilon: added to each range (or standard deviation), in both directions: 1e-6 in openpi.
    per_step: the statistics have a row for each of the horizon's steps.
    binary, bins: only for the action.
    """

    kind: Literal[Kind, "none"]
    format: Format | None = None
    file: str | None = None
    key: str | None = None
    parts: Annotated[list[Part], Field(min_length=1)] | None = None
    clip: StrictBool | Annotated[float, Field(gt=0, strict=True, allow_inf_nan=False)] | None = None
    constant: Literal["refuse", "zero", "minus_one", "same"] = "refuse"
    epsilon: Annotated[float, Field(ge=0, le=1e-3, allow_inf_nan=False)] = 0.0
    per_step: bool = False
    binary: BinaryColumns | None = None
    bins: Bins | None = None

    @model_validator(mode="after")
    def _declared(self) -> VectorNormalisation:
        if self.kind == "none":
            if self.model_fields_set != {"kind"}:
                said = sorted(self.model_fields_set - {"kind"})
                raise ValueError(f"kind: none has no statistics, so {', '.join(said)} must not be given")
            return self
        missing = [name for name in ("format", "file", "key", "clip") if getattr(self, name) is None]
        if missing:
            raise ValueError(f"kind: {self.kind} needs {', '.join(missing)}")
        if self.clip is True:
            raise ValueError("clip: give the limit, such as 1.0, or false")
        if (self.parts is not None) != (self.format == "gr00t"):
            raise ValueError("parts is needed for format: gr00t, and only there")
        if self.clip is not False and self.kind == "mean_std":
            raise ValueError("clip: must be false, as mean_std has no range")
        return self


class Normalisation(Model):
    """Of the action, which the network returns, and of the state (`proprio`), which it is shown."""

    action: VectorNormalisation
    proprio: VectorNormalisation

    @property
    def files(self) -> dict[str, str]:
        """{manifest key: name of the file it needs}."""
        vectors = {"action": self.action, "proprio": self.proprio}
        return {f"normalisation.{name}.file": each.file for name, each in vectors.items() if each.file}

    @model_validator(mode="after")
    def _only_of_the_action(self) -> Normalisation:
        for name in ("per_step", "binary", "bins"):
            if getattr(self.proprio, name):
                raise ValueError(f"proprio.{name}: only an action has it")
        return self
