"""Write docs/tutorial_images.png by following docs/tutorial_data_team.md up to its third step.

Run it:  python docs/make_tutorial_picture.py        (about six minutes)
"""

import os
import re
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from synthgen.cli import cli
from synthgen.image_sheet import sheet

HERE = Path(__file__).parent.resolve()
EACH, SCALE = 8, 3  # images of a row; screen pixels for each of theirs

page = (HERE / "tutorial_data_team.md").read_text(encoding="utf-8")
commands = re.findall(r"^synthgen (dicom phantom .*)$", page, re.M)
code = re.findall(r"^```python\n(.*?)^```$", page, re.S | re.M)[:3]
names: dict = {}
with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    cli.main(args=commands[0].split(), standalone_mode=False)
    for block in code:
        exec(block, names)  # our own page
    train, made = names["train"], names["nodules"]
    rare = np.flatnonzero(train.records.table["finding"] == "nodule")[:EACH]
    size = (32, 32)
    rows = [train.read(int(i)) for i in rare], [made.read(i) for i in range(EACH)]
    tiles = [
        np.asarray(Image.fromarray(np.asarray(image, dtype=np.float32)).resize(size)) for row in rows for image in row
    ]
    picture = Image.fromarray(sheet(tiles, across=EACH))
    large = picture.resize((picture.width * SCALE, picture.height * SCALE), Image.Resampling.NEAREST)
    large.save(HERE / "tutorial_images.png", optimize=True)
