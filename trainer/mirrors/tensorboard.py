"""A run as TensorBoard shows it: event files under `mirrors/tensorboard` of the run folder.

Written through TensorBoard's own writer rather than that of torch, which would load a good part of torch beside the
training. Numbers that are not finite are written as they are, and shown as such.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event as Entry
from tensorboard.compat.proto.event_pb2 import SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2, summary_v2
from tensorboard.plugins.text.plugin_data_pb2 import TextPluginData
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from contract import Event, State
from trainer.mirrors.mirror import FOLDER, About, End, Told, flat

_HPARAM_STATUS = {State.COMPLETED: api_pb2.STATUS_SUCCESS, State.FAILED: api_pb2.STATUS_FAILURE}
"""A run that was stopped may go on, so its session is left open."""


def opened(about: About) -> _TensorBoard:
    """Begins event files, beside those of earlier attempts."""
    return _TensorBoard(about)


class _TensorBoard:
    def __init__(self, about: About) -> None:
        folder = about.folder / FOLDER / "tensorboard"
        self._to_purge = any(folder.glob("events.*"))
        self._metric = about.metric
        self._step, self._at = 0, time.time()
        self._file = EventFileWriter(str(folder), max_queue_size=1000)  # a short queue has the threads wake each other
        if not self._to_purge:
            self._begin(about)

    def _begin(self, about: About) -> None:
        settings = dict(flat(about.experiment.config))
        if about.experiment.hypothesis:
            self._put(_text("hypothesis", about.experiment.hypothesis))
        self._put(_text("config", _table(settings)))
        metrics = [summary_v2.Metric(self._metric)] if self._metric else []
        self._put(summary_v2.hparams_config_pb([summary_v2.HParam(name) for name in settings], metrics))
        self._put(summary_v2.hparams_pb({name: _plain(value) for name, value in settings.items()}, about.experiment.id))

    def take(self, rows: Sequence[Told]) -> None:
        for row in rows:
            if row.step is not None:
                self._purge(row.step if row.event == Event.STEP else row.step + 1)
                self._step = row.step
            self._at = row.at
            if row.text:
                self._put(_text(row.event, row.text))
            if row.numbers:
                values = [Summary.Value(tag=name, simple_value=value) for name, value in row.numbers.items()]
                self._put(Summary(value=values))
        self._file.flush()

    def close(self, end: End) -> None:
        said = end.state if end.best is None else f"{end.state}, best {self._metric} {end.best:.6g}"
        self._put(_text("end", f"{said}\n\n{end.error}" if end.error else said))
        if end.best is not None:
            self._put(Summary(value=[Summary.Value(tag=f"best_{self._metric}", simple_value=end.best)]))
        if status := _HPARAM_STATUS.get(State(end.state)):
            self._put(_session_end(status, self._at))
        self._file.close()

    def _purge(self, step: int) -> None:
        """Has an earlier attempt's values forgotten from the step at which this one goes on."""
        if self._to_purge:
            self._to_purge = False
            self._file.add_event(Entry(wall_time=self._at, step=step, session_log=SessionLog(status=SessionLog.START)))

    def _put(self, summary: Summary) -> None:
        self._file.add_event(Entry(wall_time=self._at, step=self._step, summary=summary))


def _text(tag: str, text: str) -> Summary:
    plugin = SummaryMetadata.PluginData(plugin_name="text", content=TextPluginData(version=0).SerializeToString())
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    tensor = TensorProto(dtype="DT_STRING", string_val=[text.encode("utf-8", "backslashreplace")], tensor_shape=shape)
    value = Summary.Value(tag=f"{tag}/text_summary", metadata=SummaryMetadata(plugin_data=plugin), tensor=tensor)
    return Summary(value=[value])


def _table(settings: Mapping[str, Any]) -> str:
    """Settings as a table in Markdown, which TensorBoard renders."""
    return "\n".join(["| key | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in settings.items())])


def _plain(value: Any) -> bool | int | float | str:
    """A setting as TensorBoard takes it."""
    return value if isinstance(value, bool | int | float | str) else str(value)


def _session_end(status: int, at: float) -> Summary:
    ended = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=at)
    about = metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(session_end_info=ended))
    value = Summary.Value(tag=metadata.SESSION_END_INFO_TAG, metadata=about, tensor=metadata.NULL_TENSOR)
    return Summary(value=[value])
