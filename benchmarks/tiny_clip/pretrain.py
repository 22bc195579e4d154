"""Pre-trains the embedded CLIP: ``python -m benchmarks.tiny_clip.pretrain``.

Draws image-caption pairs (seeds disjoint from every data set of the concepts stream) and
minimises CLIP's contrastive loss. A caption names the subject always and each detail one
time in three: with full captions the colours alone tell two pictures of a batch apart, and
the model learns little else. One thread is fastest for a model of this size.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
from pathlib import Path

import numpy as np
import torch
from open_clip.model import CLIP
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from benchmarks.streams.render import KINDS, class_names, draw
from benchmarks.tiny_clip import WEIGHTS, build, to_input, tokenize

_SHARES = {
    "shapes": 0.14, "textures": 0.11, "colours": 0.09, "latin": 0.24,
    "greek": 0.15, "cyrillic": 0.15, "printed": 0.12,
}  # fmt: skip
_SAID = 1 / 3  # how often a detail is part of the caption
_CORPUS_SEED = (20260, 0)  # the stream's own sets use (20260, 1 ...)


def corpus(count: int, part: int = 0, progress: bool = True) -> tuple[Tensor, list[str]]:
    """``count`` drawn pairs: uint8 pixels [count, 3, 32, 32] and their captions.

    ``part`` picks an independent corpus: 0 to train on, 1 to measure caption accuracy.
    """
    rng = np.random.default_rng((*_CORPUS_SEED, part))
    kinds = rng.choice(KINDS, size=count, p=[_SHARES[k] for k in KINDS])
    images, captions = np.empty((count, 3, 32, 32), dtype=np.uint8), []
    for row in tqdm(range(count), desc="draw", disable=not progress, mininterval=5):
        kind = str(kinds[row])
        picture = draw(kind, int(rng.integers(len(class_names(kind)))), rng)
        images[row] = picture.pixels.transpose(2, 0, 1)
        said = [d for d in picture.details if rng.random() < _SAID]
        captions.append(", ".join((picture.subject, *said)))
    return torch.from_numpy(images), captions


def contrastive_loss(model: CLIP, pixels: Tensor, ids: Tensor) -> Tensor:
    """CLIP's loss of a batch in which some captions are the same.

    Each caption is encoded once; an image has one right caption, a caption may have several
    right images, which share its probability.
    """
    texts, own = ids.unique(dim=0, return_inverse=True)
    image = model.encode_image(to_input(pixels), normalize=True)
    text = model.encode_text(texts, normalize=True)
    logits = model.logit_scale.exp() * image @ text.T
    right = F.one_hot(own, len(texts)).float().T
    right = right / right.sum(dim=1, keepdim=True)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, right)) / 2


@torch.no_grad()
def caption_accuracy(model: torch.nn.Module, count: int = 1024, batch: int = 128) -> float:
    """Share of new pictures whose own caption is the nearest of ``batch``."""
    pixels, captions = corpus(count, part=1, progress=False)
    model.eval()
    hits = 0
    for start in range(0, count, batch):
        image = model.encode_image(to_input(pixels[start : start + batch]), normalize=True)
        texts = captions[start : start + batch]
        text = model.encode_text(tokenize(texts), normalize=True)
        nearest = (image @ text.T).argmax(dim=1)
        hits += sum(texts[int(k)] == own for k, own in zip(nearest, texts, strict=True))
    return hits / count


def pretrain(args: argparse.Namespace) -> None:
    """Train, measure, and write the weights and a JSON with the figures beside them."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    started = time.perf_counter()
    pixels, captions = corpus(args.images)
    ids = tokenize(captions)
    model = build()
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    plain = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}],
        lr=args.lr,
        betas=(0.9, 0.98),
    )
    per_epoch = args.images // args.batch
    total, warm_up = per_epoch * args.epochs, 300
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda s: min((s + 1) / warm_up, 0.5 * (1 + math.cos(math.pi * min(1.0, s / total)))),
    )
    order_of = torch.Generator().manual_seed(args.seed)
    with tqdm(total=total, desc="pretrain", mininterval=5) as bar:
        for _ in range(args.epochs):
            order = torch.randperm(args.images, generator=order_of)
            model.train()
            for step in range(per_epoch):
                rows = order[step * args.batch : (step + 1) * args.batch]
                loss = contrastive_loss(model, pixels[rows], ids[rows])
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                with torch.no_grad():
                    model.logit_scale.clamp_(0, math.log(100))
                bar.update()
                if step % 50 == 0:
                    bar.set_postfix(loss=f"{loss.item():.3f}")
    minutes = (time.perf_counter() - started) / 60
    staged = args.out.with_suffix(".tmp")
    save_file({k: v.half().contiguous() for k, v in model.state_dict().items()}, staged)
    os.replace(staged, args.out)
    report = {
        "images": args.images,
        "epochs": args.epochs,
        "batch": args.batch,
        "lr": args.lr,
        "seed": args.seed,
        "threads": args.threads,
        "minutes": round(minutes, 1),
        "caption_accuracy_of_128": round(caption_accuracy(model), 4),
        "torch": torch.__version__,
        "machine": platform.machine(),
    }
    args.out.with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def main() -> None:
    """Command line of the pre-training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=53_000)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    pretrain(parser.parse_args())


if __name__ == "__main__":
    main()
