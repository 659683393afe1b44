"""svy (Rust core): GREG through ``calibrate_matrix(weights_only=True)``, its leanest interface, and
``rake`` for margins.

Settings: GREG is closed form; rake with tol=1e-9 and max_iter=1000. Belongs here: those calls. Does
not belong here: judging.
"""

import polars as pl
import protocol
import svy


def prepare(data):
    if data.task == "margins":
        frame = pl.DataFrame(
            {f"m{j}": [f"c{k}" for k in data.codes[:, j]] for j in range(data.margins)}
            | {"d": data.weights}
        )
        return data.task, svy.Sample(frame, svy.Design(wgt="d")), data.controls()
    matrix, targets = data.dense()
    return (
        data.task,
        (svy.Sample(pl.DataFrame({"d": data.weights}), svy.Design(wgt="d")), matrix),
        targets,
    )


def solve(prepared):
    task, sample, controls = prepared
    if task == "margins":
        out = sample.weighting.rake(
            controls=controls, tol=1e-9, max_iter=1000, on_nonconvergence="ignore", wgt_name="w"
        )
        # It records a failure to converge in its warnings.
        return out.data["w"].to_numpy(), not list(out.warnings)
    weights = sample[0].weighting.calibrate_matrix(
        aux_vars=sample[1], controls=controls, weights_only=True
    )
    return weights, True


protocol.serve("svy", prepare, solve)
