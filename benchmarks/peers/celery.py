"""Celery: one process with its pool of threads; Redis. At least once: acknowledged late.

Tried: the pools threads, gevent and solo; 4 to 50 jobs at once; a prefetch of 1, 4 and 50 for each; psycopg and pg8000.
Ten threads that prefetch 50 were the fastest. gevent had half of their speed, solo a fifth. Results, events, gossip,
heartbeats, remote control and rate limits are off.
"""

from __future__ import annotations

from benchmarks.peers.work import Commit, receive

order, report = receive("celery", "kombu", "redis", "psycopg")
pool = order.settings["pool"]
if pool == "gevent":
    from gevent import monkey

    monkey.patch_all()

from celery import Celery  # noqa: E402

commit = Commit(order.database_url, order.settings.get("driver", "psycopg"))
app = Celery("peer", broker=order.redis_url)
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    task_serializer="json",
    worker_disable_rate_limits=True,
    worker_prefetch_multiplier=order.settings["prefetch"],
    worker_hijack_root_logger=False,
    worker_send_task_events=False,
    worker_enable_remote_control=False,
    broker_pool_limit=None,
    broker_connection_retry_on_startup=True,
)


@app.task(name="answer")
def answer(*job: str) -> None:
    commit(*job)
    if report.ended():
        report.tell()


def main() -> None:
    with app.producer_pool.acquire() as producer:
        for job in order.jobs:
            answer.apply_async(job, producer=producer)
    app.worker_main(
        [
            "worker",
            f"--pool={pool}",
            f"--concurrency={order.settings['concurrency']}",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
            "--loglevel=CRITICAL",
        ]
    )


if __name__ == "__main__":
    main()
