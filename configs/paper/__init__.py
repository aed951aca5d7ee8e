"""The paper's models at full size (2204.06125, appendix C, table 3), for pods and clusters.

`unclip plan --config configs/paper/STAGE.py --topology v5p:4x4x4` says what each takes.
"""
