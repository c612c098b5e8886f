"""Does a transformer over columns learn a wide table better than the MLP, on a CPU?

    python benchmarks/wide_tables.py --columns 250 --seconds 240 --record

The table has one yes/no column for each of the most frequent diagnoses of Diabetes-130, the drugs, age, sex and
readmission. Both networks get the same seconds of one thread, the same loop, loss, masks and validation patients; the
judge is the validation loss in nats per row, a bound on the likelihood. "pass" is one look of the network at one row,
of which a sampled row takes at most one for each column.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tables import TABLES, Row, machine, markdown, record
from torch import Tensor, nn

from synthgen.data import TableData
from synthgen.generators import tabular, training
from synthgen.generators.codec import TableCodec
from synthgen.generators.denoiser import soft_cap
from synthgen.generators.layout import Layout, Stage
from synthgen.generators.objective import Objective, marginals
from synthgen.generators.table_diffusion import TableDiffusion
from synthgen.generators.tokens import HIDDEN
from synthgen.io import read
from synthgen.rng import Seed

DIAGNOSES = ("diag_1", "diag_2", "diag_3")
ROWS_OF_A_PASS = 256


def wide(columns: int) -> TableData:
    """The table; the rows of one patient are taken as different ones."""
    raw = pd.read_csv(Path(TABLES) / "diabetes130.csv.gz", low_memory=False, na_values="?", keep_default_na=False)
    drugs = [name for name in raw if set(raw[name].dropna().unique()) <= {"No", "Steady", "Up", "Down"}]
    others = [*drugs, "age", "gender", "readmitted"]
    codes = pd.concat([raw[name] for name in DIAGNOSES]).value_counts().index[: columns - len(others)]
    said = {f"dx_{code}": (raw[list(DIAGNOSES)] == code).any(axis=1).astype(int) for code in codes}
    return read(pd.DataFrame({**said, **{name: raw[name] for name in others}}), target="readmitted")


class Attention(nn.Module):
    """Pre-norm attention over the columns and a small MLP. Shape: (batch, columns, width) -> same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.into, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, columns, width = x.shape
        q, k, v = self.into(self.before(x)).view(batch, columns, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, columns, width)
        x = x + self.out(mixed)
        return x + self.down(nn.functional.gelu(self.up(self.between(x))))


class Transformer(nn.Module):
    """One vector for each column; the logits of a column come from its own vector."""

    def __init__(self, layout: Layout, shares: dict[Stage, np.ndarray], *, width: int = 64, layers: int = 2) -> None:
        super().__init__()
        self.layout = layout
        sizes = torch.from_numpy(layout.sizes)
        self.hidden_token, self.offsets = sizes, (sizes + 1).cumsum(0) - sizes - 1
        self.embed = nn.Embedding(int((sizes + 1).sum()), width)
        nn.init.normal_(self.embed.weight, 0, 0.5)
        self.column = nn.Parameter(torch.randn(len(sizes), width) * 0.5)
        self.layers = nn.Sequential(*(Attention(width, 4) for _ in range(layers)), nn.LayerNorm(width))
        self.out = nn.Parameter(torch.randn(int(sizes.sum()), width) * 0.02)
        self.bias = nn.Parameter(torch.from_numpy(np.log(np.concatenate([shares["coarse"], shares["fine"]]))))
        self.owner = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
        self.values = int(sizes[: layout.coarse].sum())

    def forward(self, tokens: Tensor, _dropout: torch.Generator | None = None) -> Tensor:
        found: Tensor = self.layers(
            self.embed(torch.where(tokens == HIDDEN, self.hidden_token, tokens) + self.offsets) + self.column
        )
        return found

    def logits(self, x: Tensor, stage: Stage, _tokens: Tensor) -> Tensor:
        part = slice(0, self.values) if stage == "coarse" else slice(self.values, None)
        return soft_cap((x[:, self.owner[part]] * self.out[part]).sum(-1) + self.bias[part])


def compared(data: TableData, seconds: float) -> list[Row]:
    """A line for each network."""
    seed = Seed(1)
    codec = TableCodec.fit(data, seed=seed.child("codec"), ties=True)
    generator = TableDiffusion(max_seconds=seconds, threads=1)._resolved(data.patient_count, codec)
    tokens, held = generator._tokens(codec, data), tabular.validation_rows(data, seed.child("validation"))
    layout, rows = Layout.of(codec), int((~held).sum())
    shares = marginals(tokens[~held], layout)
    mlp = generator._network(codec, seed.child("network"), None)
    mlp.start_from(shares)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        transformer = Transformer(layout, shares)
    networks: list[tuple[str, nn.Module, training.Recipe]] = [
        ("MLP", mlp, generator._recipe(rows)),
        ("transformer", transformer, training.Recipe(max_seconds=seconds, batch=128, learning_rate=1e-3)),
    ]
    lines = []
    for name, network, recipe in networks:
        objective = Objective(layout, tokens[~held], tokens[held], seed.child("evaluation"))
        started = time.perf_counter()
        outcome = training.train(network, objective, objective.evaluate, rows=rows, recipe=recipe, seed=seed)
        fit = time.perf_counter() - started
        places = len(layout.order)
        nothing = torch.full((ROWS_OF_A_PASS, places), HIDDEN)
        with torch.inference_mode():
            network(nothing)
            started = time.perf_counter()
            network(nothing)
        passes = ROWS_OF_A_PASS / (time.perf_counter() - started)
        parameters = sum(p.numel() for p in network.parameters())
        before, after = outcome.history[0][2] * places, outcome.validation_loss * places
        steps = f"{outcome.steps} of {recipe.batch} rows"
        lines.append((name, f"{parameters:,}", f"{fit:.0f}", steps, f"{before:.2f}", f"{after:.2f}", f"{passes:,.0f}"))
        print(" | ".join(lines[-1]), flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--columns", type=int, default=250)
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--record", action="store_true", help="write the table into RESULTS.md")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    data = wide(chosen.columns)
    head = ("network", "parameters", "fit s", "steps", "nats/row, first evaluation", "nats/row, kept", "passes/s")
    table = markdown(compared(data, chosen.seconds), head)
    shape = f"{len(data):,} rows x {data.table.shape[1]} columns, {chosen.seconds:.0f} s of one thread"
    body = f"{shape}. {machine()}.\n\n{table}"
    print(f"\n{body}")
    if chosen.record:
        record("Wide tables", body)


if __name__ == "__main__":
    main()
