"""The arm of franky-sim's wheel as franka-sim needs it, so that nothing is downloaded at its first start.

    python experiments/franka_sim_model.py OUTPUT.xml

franka-sim streams the pose of the body named link7 where libfranka means the flange, 107 mm further on; the controller in a client
would drive the arm that far into the table. The name therefore goes to a body at the flange.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import franky_sim

FLANGE_M = "0 0 0.107"
"""from the last joint, along its axis"""

if __name__ == "__main__":
    assets = Path(franky_sim.__file__).parent / "assets"
    tree = ET.parse(assets / "fr3.xml")
    compiler, link = tree.find("compiler"), tree.find(".//body[@name='fr3_link7']")
    if compiler is None or link is None:
        sys.exit(f"{assets / 'fr3.xml'} is not the model that this was made for; install franky-sim==1.0.4")
    compiler.set("meshdir", str(assets / "meshes"))
    link.set("name", "fr3_wrist")
    ET.SubElement(link, "body", name="fr3_link7", pos=FLANGE_M)
    tree.write(sys.argv[1])
