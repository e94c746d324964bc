"""CelebA in little: the folders of the owners' archive, one picture gone, one that no list has."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_service.schema import Expression
from tests.corpora.pictures import face, write

HEADER = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose "
    "Black_Hair Blond_Hair Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee "
    "Gray_Hair Heavy_Makeup High_Cheekbones Male Mouth_Slightly_Open Mustache Narrow_Eyes "
    "No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks Sideburns Smiling "
    "Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace "
    "Wearing_Necktie Young"
)
NAMES = HEADER.split()
POINTS = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y"
POINTS += " leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
ALIGNED = [69, 111, 108, 111, 88, 130, 73, 152, 105, 152]
PICTURES = 24


def identity(number: int) -> int:
    """Two pictures each; the numbers of CelebA's identities are in no order."""
    return 9000 - number // 2


def build(root: Path) -> Path:
    """Twenty-four pictures of twelve identities, aligned and as they were found."""
    names = [f"{number:06d}.jpg" for number in range(1, PICTURES + 1)]
    smiling = [number % 2 == 1 for number in range(PICTURES)]
    for number, name in enumerate(names):
        expression = Expression.HAPPINESS if smiling[number] else Expression.NEUTRAL
        picture = face(number // 2, expression)
        aligned = np.full((218, 178, 3), 90, np.uint8)
        aligned[75:171, 41:137] = picture
        write(root / "Img" / "img_align_celeba" / name, aligned)
        wild = np.full((150, 170, 3), 60, np.uint8)
        wild[30:126, 50:146] = picture
        write(root / "Img" / "img_celeba" / name, wild)
    (root / "Img" / "img_align_celeba" / names[5]).unlink()
    write(root / "Img" / "img_align_celeba" / "extra.jpg", face(1, Expression.FEAR))
    write(root / "Img" / "img_align_celeba" / "000007.png", face(1, Expression.FEAR))
    write(root / "Img" / "img_align_celeba" / ".DS_Store", "x")
    _lists(root, names, smiling)
    return root


def _lists(root: Path, names: list[str], smiling: list[bool]) -> None:
    top = f"{PICTURES}\r\n"
    rows = []
    for number, name in enumerate(names):
        values = [1 if (number + at) % 3 == 0 else -1 for at in range(40)]
        values[NAMES.index("Smiling")] = 1 if smiling[number] else -1
        rows.append(f"{name} " + " ".join(f"{value:2d}" for value in values))
    write(root / "Anno" / "list_attr_celeba.txt", top + " ".join(NAMES) + " \r\n" + _lines(rows))
    shifted = [x + 10 for x in ALIGNED]
    for stem, points in (
        ("list_landmarks_align_celeba", ALIGNED),
        ("list_landmarks_celeba", shifted),
    ):
        rows = [f"{name}  " + "  ".join(map(str, points)) for name in names]
        write(root / "Anno" / f"{stem}.txt", top + POINTS + " \r\n" + _lines(rows))
    rows = [f"{name}    50  30 96 96" for name in names]
    write(
        root / "Anno" / "list_bbox_celeba.txt",
        top + "image_id x_1 y_1 width height\n" + _lines(rows),
    )
    rows = [f"{name} {identity(number)}" for number, name in enumerate(names)]
    write(root / "Anno" / "identity_CelebA.txt", _lines(rows))
    rows = [f"{name} {min(number // 8, 2)}" for number, name in enumerate(names)]
    write(root / "Eval" / "list_eval_partition.txt", _lines(rows))


def _lines(rows: list[str]) -> str:
    return "".join(f"{row}\n" for row in rows)
