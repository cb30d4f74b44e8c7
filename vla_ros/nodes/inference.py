"""policy_node's inference thread: the newest observation, the network, a chunk, over and over."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Mapping

from vla_ros.action.chunk_cdr import to_cdr
from vla_ros.action.decode import first_rows
from vla_ros.errors import Refused
from vla_ros.nodes.chunk_maker import ChunkMaker
from vla_ros.nodes.policy_inputs import PolicyInputs
from vla_ros.nodes.policy_report import PolicyReport
from vla_ros.nodes.two_hands import TwoHands
from vla_ros.nodes.wanted import Wanted, Wish
from vla_ros.observation.assemble import Forward
from vla_ros.policy.trigger import Trigger
from vla_ros.types import ActionChunk, Observation

NS = 1_000_000_000
# While waiting for a chunk's rows, so long at most until the clocks are looked at again: they may jump.
WAIT_S = 0.02
# How long to wait for an image before the streams are judged again, and after a refusal.
FRESH_S, RETRY_S = 0.02, 0.05


class Inference:
    """A thread that infers while that is wanted, when the trigger says so. Only `stop` ends it.

    publish: takes a chunk's CDR. now_ns: the ROS clock. `start` and `stop` are called from one thread.
    """

    def __init__(
        self,
        wanted: Wanted,
        maker: ChunkMaker,
        inputs: PolicyInputs,
        kinematics: Mapping[str, Forward],
        report: PolicyReport,
        publish: Callable[[bytes], None],
        now_ns: Callable[[], int],
    ) -> None:
        self._wanted, self._maker, self._report = wanted, maker, report
        self._inputs, self._kinematics = inputs, kinematics
        self._publish_cdr, self._now_ns = publish, now_ns
        self._halt = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def runs(self) -> bool:
        """Between `start` and `stop`."""
        return self._thread is not None

    def start(self) -> None:
        """Begin the thread."""
        self._halt.clear()
        self._two_hands = TwoHands()
        self._thread = threading.Thread(target=self._infer_forever, name="inference", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, when it has inferred what it has in hand. May be called twice."""
        if self._thread is None:
            return
        self._halt.set()
        self._wanted.woken.set()
        self._thread.join()
        self._two_hands.close()
        self._thread = None
        self._wanted.woken.clear()

    def _infer_forever(self) -> None:
        trigger = Trigger()
        last_epoch, last_ns, since_ns = -1, 0, 0
        while not self._halt.is_set():
            wish = self._wanted.now
            if not wish.followed:
                self._maker.forget()
            if not wish.running:
                self._report.status("ready")
                self._wanted.woken.wait()
                self._wanted.woken.clear()
                continue
            if wish.epoch != last_epoch:
                self._maker.reset()
                trigger.reset()
                last_epoch, last_ns, since_ns = wish.epoch, 0, self._now_ns()
            wait_ns = trigger.wait_ns(wish.pace, time.monotonic_ns(), self._now_ns())
            if wait_ns > 0:
                self._wanted.woken.wait(min(wait_ns / NS, WAIT_S))
                self._wanted.woken.clear()
                continue
            try:
                self._inputs.fresh.clear()
                after_ns = trigger.observe_after_ns(wish.pace, self._now_ns())
                # Else an episode would begin in the future after the clock was set back.
                since_ns = min(since_ns, self._now_ns())
                begin = time.perf_counter()
                seen = self._inputs.observe(wish.prompt, self._kinematics, last_ns, after_ns, since_ns)
                if seen is None:
                    self._inputs.fresh.wait(FRESH_S)
                    continue
                trigger.begun(wish.pace, time.monotonic_ns())
                last_ns = seen[0].stamp_ns
                chunk, glue_s = self._maker.make(*seen, wish.pace, self._two_hands, begin)
                self._publish(wish, seen[0], chunk, trigger, glue_s)
            except Refused as error:
                self._report.refused(error)
                self._halt.wait(RETRY_S)
            except Exception as error:
                # The robot is kept safe by control_node, which gets no chunk; this node says why and lives.
                failure = Refused("exception", f"inference failed: {error!r}")
                self._report.refused(failure, traceback.format_exc())
                self._halt.wait(RETRY_S)

    def _publish(
        self, wish: Wish, observation: Observation, chunk: ActionChunk, trigger: Trigger, glue_s: float
    ) -> None:
        """Publish the rows that are to be executed, unless stop, reset or another prompt came meanwhile."""
        begin = time.perf_counter()
        pace = wish.pace
        sent = first_rows(chunk, pace.execute_steps) if pace.execute_steps else chunk
        message = to_cdr(sent)
        if not self._wanted.if_still(wish.epoch, lambda: self._publish_cdr(message)):
            return
        now_ns = self._now_ns()
        trigger.published(sent.due_ns, round(self._maker.step_s / pace.speed * NS), now_ns)
        self._maker.published(chunk, sent, observation, now_ns)
        self._report.diagnostics.sample("glue_ms", (glue_s + time.perf_counter() - begin) * 1e3)
        self._report.diagnostics.sample("observation_age_ms", (now_ns - chunk.stamp_ns) / 1e6)
        self._report.published()
