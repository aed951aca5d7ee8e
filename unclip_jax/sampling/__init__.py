"""From captions to images with a bundle. The walk of a prompt:

    cli/sample.py, workflows/text_to_image.py
                       options -> SampleSettings, None where the bundle's own setting counts
    settings.py        resolve: SampleSettings -> Plan, with a SamplingConfig for each stage
    pipeline.py        make_pipeline: Plan -> a list of samplers; generate: batches of requests
    encode.py          captions -> TextFeatures, by the frozen CLIP
    stage_sampler.py   StageSampler(cond, keys): z_i from a prior, images from the other stages
    programs.py        ProgramKey: all that a compiled program depends on; noise, steps, result
    parallel.py        the one mapped call, over the local devices

So settings have four forms: options, SampleSettings, Plan, ProgramKey. Inside a program the
diffusion core derives its SamplingPlan, the list of noise levels, from the key.

codes.py holds the program of the autoregressive prior. latents.py, manipulate.py and inpaint.py
start from given images, single_stage.py runs one stage, monitor.py carries progress and wall times,
arguments.py refuses what calls cannot take.
"""
