"""Folders of pictures, one file for each: in shards and worker processes, killed and resumed without loss."""

from moesaic.batch.manifest import manifest_path
from moesaic.batch.plan import Plan, Shard, Task, make_plan
from moesaic.batch.run import Outcome, Tally, run
from moesaic.batch.workers import Prepare, Work

__all__ = ["Outcome", "Plan", "Prepare", "Shard", "Tally", "Task", "Work", "make_plan", "manifest_path", "run"]
