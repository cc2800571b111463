"""Vectors of a model that runs in Ollama."""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Callable, Sequence

from knowledge.errors import ModelUnavailable
from knowledge.ollama_client import Ollama

# From here on a near match counts. A usual value for sentence embeddings, not a measured one:
# until one's own incidents have shown it to hold, such a match only suggests.
UNCALIBRATED_BOUND = 0.82
BATCH = 32  # texts a request: one that fails loses little, and the wait for one stays short

# Ollama's runner takes 512 tokens at a time (num_batch), and of a longer text some releases lose
# the runner (ollama#16582), whatever the model's window is.
_MOST_TOKENS = 512
_MARKS = 16  # tokens that the model puts around a text, generously

# A pass embeds each failure by itself, and everything else waits meanwhile. So who did not answer
# soon is not asked again for a minute, or ten times as long as it has cost.
_SOON = 1.0  # seconds
_LEFT_ALONE, _TIMES_THE_COST = 60.0, 10.0


class OllamaEmbedder:
    """See Embedder. What a text has beyond the model's window is cut off here, where it can be
    told (`told` gets a sentence), and not by Ollama, where it would go unseen or fail."""

    bound = UNCALIBRATED_BOUND
    calibrated = False

    def __init__(
        self,
        client: Ollama,
        model: str,
        told: Callable[[str], None] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = f"ollama:{model}"
        self._client = client
        self._model = model
        self._told = told
        self._now = monotonic
        self._away: tuple[float, ModelUnavailable] | None = None
        self._dimensions = 0  # not known yet
        self._room = 0  # bytes of a text; not known yet

    def close(self) -> None:
        self._client.close()

    @property
    def dimensions(self) -> int:
        """As many as the first vector has; the model is asked for one if none came yet."""
        if not self._dimensions:
            self.embed(["dimensions"])
        return self._dimensions

    def embed(self, texts: Sequence[str]) -> list[array[float]]:
        """See Embedder: all the vectors, or ModelUnavailable that says with which text it went
        wrong. Texts are sent in batches of 32. After an error that was slow in coming the same
        one is raised for a while, and nothing is sent."""
        begun = self._now()
        if self._away and begun < self._away[0]:
            raise self._away[1].with_traceback(None) from None
        try:
            return self._embed(texts)
        except ModelUnavailable as error:
            cost = self._now() - begun
            if cost > _SOON:
                until = self._now() + max(_LEFT_ALONE, _TIMES_THE_COST * cost)
                self._away = until, error
            raise

    def _embed(self, texts: Sequence[str]) -> list[array[float]]:
        vectors: dict[int, array[float]] = {}
        filled = [(number, text) for number, text in enumerate(texts) if text.strip()]
        shown = self._cut([text for _, text in filled]) if filled else []
        for start in range(0, len(filled), BATCH):
            given = self._client.embed(self._model, shown[start : start + BATCH])
            for (number, _), values in zip(filled[start : start + BATCH], given, strict=True):
                vectors[number] = self._unit(values, f"text {number + 1} of {len(texts)}")
        if len(vectors) == len(texts):
            return list(vectors.values())
        empty = array("f", bytes(4 * self.dimensions))
        return [vectors.get(number) or empty[:] for number in range(len(texts))]

    def _cut(self, texts: Sequence[str]) -> list[str]:
        if not self._room:
            info = self._client.show(self._model)
            windows = (_MOST_TOKENS, info.context_length, info.num_ctx)
            # A token has a byte at least, in whichever script; fewer would be a guess that text
            # full of punctuation (<n>.<n>) proves wrong.
            self._room = max(_MARKS, min(filter(None, windows)) - _MARKS)
        encoded = [text.encode("utf-8", "replace") for text in texts]
        long = sum(len(data) > self._room for data in encoded)
        if long and self._told is not None:
            self._told(
                f"{long} of {len(texts)} texts cut to the first {self._room} bytes, "
                f"which {self._model} can take"
            )
        return [data[: self._room].decode("utf-8", "ignore") for data in encoded]

    def _unit(self, values: Sequence[float], which: str) -> array[float]:
        length = math.hypot(*values)
        if not length or not math.isfinite(length):
            raise self._wrong(f"its vector for {which} has no direction (zero, NaN or infinite)")
        if self._dimensions not in (0, len(values)):
            raise self._wrong(
                f"its vector for {which} has {len(values)} numbers, others {self._dimensions}"
            )
        self._dimensions = len(values)
        return array("f", (value / length for value in values))

    def _wrong(self, why: str) -> ModelUnavailable:
        return ModelUnavailable(
            f"the embedder {self.name}", why, "try another model: AIOPS_EMBEDDER"
        )
