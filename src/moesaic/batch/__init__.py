"""Folders of pictures, one file for each: in shards and worker processes, or on a cluster; resumed without loss."""

from moesaic.batch.carrying import Prepare, Work
from moesaic.batch.manifest import manifest_name, manifest_path
from moesaic.batch.plan import Plan, Shard, Task, make_plan, named_in
from moesaic.batch.ray_engine import ray_actors
from moesaic.batch.remote import RemoteFolder, folder_of
from moesaic.batch.run import Engine, Outcome, Tally, run
from moesaic.batch.workers import processes

__all__ = [
    "Engine",
    "Outcome",
    "Plan",
    "Prepare",
    "RemoteFolder",
    "Shard",
    "Tally",
    "Task",
    "Work",
    "folder_of",
    "make_plan",
    "manifest_name",
    "manifest_path",
    "named_in",
    "processes",
    "ray_actors",
    "run",
]
