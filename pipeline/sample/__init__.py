"""The embedded SYNTHETIC sample: raw files in the publishers' formats from one known population.

Belongs here: the generator, whose door is ``pipeline.sample.generate`` (``generate_sample``,
``ensure_sample``, ``read_truth``). Does not belong here: reading raw files or anything the pipeline
does with them.
"""
