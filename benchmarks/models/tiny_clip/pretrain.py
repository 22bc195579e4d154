"""Pre-trains the embedded CLIP: ``python -m benchmarks.models.tiny_clip.pretrain``.

The script draws image-caption pairs and minimises CLIP's contrastive loss. The seeds are
disjoint from the seeds of all embedded data sets. A caption always names the subject, and names
each detail one time in three: with full captions, colours alone separate the pictures of a
batch, and the model learns little else. One thread is fastest for a model of this size.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time

import numpy as np
import torch
from open_clip.model import CLIP
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from avalanche_proxyfda._files import expanded
from benchmarks._printing import print_every_character
from benchmarks.models.tiny_clip import WEIGHTS, build, tokenize
from benchmarks.streams.concepts.data import to_input
from benchmarks.streams.concepts.render import KINDS, class_names, draw

_SHARES = {
    "shapes": 0.14,
    "textures": 0.11,
    "colours": 0.09,
    "latin": 0.24,
    "greek": 0.15,
    "cyrillic": 0.15,
    "printed": 0.12,
}
_DETAIL_SHARE = 1 / 3  # probability of a detail in a caption
_CORPUS_SEED = (20260, 0)  # the stream's own sets use (20260, 1 ...)


def corpus(count: int, part: int = 0, progress: bool = True) -> tuple[Tensor, list[str]]:
    """Draw image-caption pairs.

    Args:
        count: number of pairs.
        part: number of an independent corpus: 0 for training, 1 for caption accuracy.
        progress: True shows a progress bar.

    Returns:
        uint8 pixels [count, 3, 32, 32], and captions.
    """
    rng = np.random.default_rng((*_CORPUS_SEED, part))
    kinds = rng.choice(KINDS, size=count, p=[_SHARES[k] for k in KINDS])
    images, captions = np.empty((count, 3, 32, 32), dtype=np.uint8), []
    for row in tqdm(range(count), desc="draw", disable=not progress, mininterval=5):
        kind = str(kinds[row])
        picture = draw(kind, int(rng.integers(len(class_names(kind)))), rng)
        images[row] = picture.pixels.transpose(2, 0, 1)
        details = [d for d in picture.details if rng.random() < _DETAIL_SHARE]
        captions.append(", ".join((picture.subject, *details)))
    return torch.from_numpy(images), captions


def contrastive_loss(model: CLIP, pixels: Tensor, ids: Tensor) -> Tensor:
    """CLIP's loss for a batch with repeated captions.

    Each distinct caption is encoded once. An image has one right caption. A caption may have
    several right images, which share its probability.

    Args:
        model: model to train.
        pixels: [B, 3, 32, 32] uint8.
        ids: [B, L] int64 tokens of the captions.

    Returns:
        The loss, a scalar tensor [].
    """
    texts, caption = ids.unique(dim=0, return_inverse=True)
    image = model.encode_image(to_input(pixels), normalize=True)
    text = model.encode_text(texts, normalize=True)
    logits = model.logit_scale.exp() * image @ text.T
    right = F.one_hot(caption, len(texts)).float().T
    right = right / right.sum(dim=1, keepdim=True)
    return (F.cross_entropy(logits, caption) + F.cross_entropy(logits.T, right)) / 2


@torch.no_grad()
def caption_accuracy(model: torch.nn.Module, count: int = 1024, batch: int = 128) -> float:
    """Share of new pictures whose caption is the nearest of ``batch`` captions.

    Args:
        model: model to measure; it is set to eval mode.
        count: number of pictures.
        batch: number of captions to choose from.
    """
    pixels, captions = corpus(count, part=1, progress=False)
    model.eval()
    hits = 0
    for start in range(0, count, batch):
        image = model.encode_image(to_input(pixels[start : start + batch]), normalize=True)
        texts = captions[start : start + batch]
        text = model.encode_text(tokenize(texts), normalize=True)
        nearest = (image @ text.T).argmax(dim=1)
        hits += sum(texts[int(k)] == caption for k, caption in zip(nearest, texts, strict=True))
    return hits / count


def pretrain(args: argparse.Namespace) -> None:
    """Train and measure the model; write its weights, and a JSON report beside them."""
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
    args.out.with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))


def main() -> None:
    """Run the pre-training from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=53_000, help="pairs to draw")
    parser.add_argument("--epochs", type=int, default=8, help="passes over the pairs")
    parser.add_argument("--batch", type=int, default=128, help="pairs a step")
    parser.add_argument("--lr", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and order")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--out", type=expanded, default=WEIGHTS, help="weights file")
    pretrain(parser.parse_args())


if __name__ == "__main__":
    print_every_character()
    main()
