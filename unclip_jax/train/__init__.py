"""Training: one loop for every stage, over all devices, resumable to the bit. The walk of a run:

    cli/train.py       a config file and flags -> plain mappings
    experiment.py      train: set-up, loop, and the table of the analytic variance at the end
    resolve.py         mappings -> Settings; sizes that the config leaves to the CLIP and the data
    setup.py           set_up: data, CLIP, program, state, batches and record, in that order
    program.py         Program: network, task, optimizer and step; `unclip plan` traces it too
    loop.py            Loop: dispatch, record, evaluate, save, stop

and of a batch to its gradient:

    data/              sources.py, images.py, pipeline.py: examples -> NumPy batches
    inputs.py          contexts cut to size, cached features, samples of a prior
    sharding.py        BatchSharding: this process's rows -> global arrays
    loop.py, step.py   the compiled step: micro-batches, the guarded update, EMA, metric sums
    task.py, tasks/    the loss of a stage: clip.py, diffusion.py or codes.py
    frozen_clip.py     z_i and caption features, computed or looked up
    diffusion/ models/ x_t, the network, the loss of its output

fitting.py holds what is fitted outside of the loop, stores.py opens embeddings in place of images,
init_from.py starts from a bundle; metrics.py, environment.py and throughput.py write the record.
"""
