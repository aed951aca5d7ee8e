"""The paper's models at full size (2204.06125, appendix C, table 3), for pods and clusters.

`unclip plan --config configs/paper/STAGE.py --topology v5p:4x4x4` says what each takes. What the
paper leaves open, and what is chosen here: heads of the CLIP towers (16 and 16, as OpenCLIP's
ViT-H), the vocabulary of every text encoder (CLIP's 49,408), scale-shift norms in the upsamplers
(ADM's default; 730M and 282M for the paper's 700M and 300M), null z_i as zeros, guidance of the
prior (none), of the decoder 1.25 (that of its FID figures); of the autoregressive prior,
cross-attention to the caption and buckets up to 4 deviations (prior_ar.py, pca_codec.py): 2.41B for
the paper's 1B, of which the blocks without cross-attention are 1.21B + 0.80B.
"""
