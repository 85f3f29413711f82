"""The training loop, to be read from top to bottom."""

from __future__ import annotations

from contextlib import suppress

from contract import Kill
from trainer.run import Run


def train(run: Run) -> Kill | None:
    """Trains to the last step, or until somebody asks to stop; returns that request."""
    try:
        for leg in run.legs[run.leg_number :]:
            run.enter(leg)
            while run.step < leg.last:
                if kill := run.asked_to_stop():
                    run.leave(kill)
                    return kill
                run.advance()
                if due(run.step, leg.options.train.eval_every):
                    run.examine()
                if run.checkpoint_due() and run.step < leg.last:  # the last step is saved by `end`, examined
                    run.save()
            run.end(leg)
        run.finish()
    except BaseException:
        with suppress(RuntimeError):  # a device that has failed gives no more numbers; its own error is the one to see
            run.deferred.flush()
        run.saving.settle()  # the checkpoint under way is the one to go on from
        raise
    finally:
        run.close()
    return None


def due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
