"""Launches runs of a campaign, follows their statuses through a cut connection, and pages through them."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from uuid import uuid4

from sortie import Sortie, describe
from sortie_api.enums import CheckStatus, RunStatus
from sortie_api.input_types import EventFilter, RunActInput, RunCampaignInput, RunFilter
from sortie_api.runs import RunsRuns

URL = os.environ.get("SORTIE_URL", "http://127.0.0.1:4000/graphql")
CAMPAIGN = sys.argv[1] if len(sys.argv) > 1 else "Your own flight"
CHANGES = ["scheduled", "queued", "started", "paused", "resumed", "completed", "failed", "cancelled"]


class NotAsPromised(Exception):
    pass


def expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise NotAsPromised(otherwise)


async def launch(sortie: Sortie, campaign: str, key: str) -> str:
    launched = await sortie.launch(RunCampaignInput(campaignId=campaign, evenIfOpen=True, idempotencyKey=key))
    run, checks = launched.run_campaign.run, launched.run_campaign.preflight.checks
    failed = [f"{check.code.value}: {check.message}" for check in checks if check.status == CheckStatus.FAILED]
    if run is None:
        raise NotAsPromised(f"the preflight failed: {'; '.join(failed)}")
    return run.id


async def cancel(sortie: Sortie, run: str) -> None:
    await sortie.cancel(RunActInput(id=run, reason="an example's run", idempotencyKey=str(uuid4())))


async def pages(sortie: Sortie, filter_: RunFilter) -> AsyncIterator[RunsRuns]:
    """The pages of the runs that match, newest first."""
    after: str | None = None
    while True:
        runs = (await sortie.runs(filter_, after)).runs
        yield runs
        if not runs.page_info.has_next_page:
            return
        after = runs.page_info.end_cursor


async def work(sortie: Sortie) -> None:
    found = await sortie.find(CAMPAIGN)
    begin = found.viewer.cursor
    campaign = next((one.id for one in found.campaigns.nodes if one.name == CAMPAIGN), None)
    if campaign is None:
        raise NotAsPromised(f'there is no active campaign "{CAMPAIGN}"; name one as the argument')
    print(f"campaign {CAMPAIGN}")

    # The same key twice, as after a response that was lost: one run.
    key = str(uuid4())
    first = await launch(sortie, campaign, key)
    expect(await launch(sortie, campaign, key) == first, "the same idempotency key launched two runs")
    print(f"launched {first} twice with one key: one run")

    launched, cancelled, seen = [first], set(), []
    async with aclosing(sortie.follow(campaign, begin)) as changes:
        async for change in changes:
            before = change.from_.value if change.from_ else "-"
            print(f"{change.run_id} {before} -> {change.to.value if change.to else '-'}")
            seen.append(change.cursor)
            if change.run_id == first and change.to == RunStatus.IN_PROGRESS:
                sortie.cut()
                launched += [await launch(sortie, campaign, str(uuid4())) for _ in range(2)]
                for run in launched:
                    await cancel(sortie, run)
                print("cut the connection, launched two more, and cancelled all three meanwhile")
            if change.to == RunStatus.CANCELLED:
                cancelled.add(change.run_id)
            if len(launched) == 3 and cancelled.issuperset(launched):
                break

    # What the subscription delivered is what the log holds: no gap, no repeat, the same order.
    kinds = [f"run.{what}" for what in CHANGES]
    log = (await sortie.log(EventFilter(campaignIds=[campaign], kinds=kinds), begin)).events.nodes
    expect(seen == [event.cursor for event in log][: len(seen)], "the subscription and the log differ")
    print(f"resumed: {len(seen)} changes, each once, in the order of the log")

    listed: list[str] = []
    total: int | None = None
    async for page in pages(sortie, RunFilter(campaignIds=[campaign], statuses=[RunStatus.CANCELLED])):
        listed += [run.id for run in page.nodes]
        total = page.total_count if total is None else total
        print(f"page of {len(page.nodes)}: {len(listed)} of {page.total_count} cancelled runs")
    # Runs that others cancel meanwhile may come on top.
    expect(len(set(listed)) == len(listed), "a run is on two pages")
    expect(len(listed) >= (total or 0), "a run is missing from the pages")
    expect(set(listed).issuperset(launched), "a cancelled run is on no page")
    print("the typed client in Python works")


async def main() -> int:
    async with Sortie(URL, os.environ.get("SORTIE_KEY")) as sortie:
        try:
            await asyncio.wait_for(work(sortie), 120)
        except Exception as err:
            print(f"{URL}: {describe(err)}", file=sys.stderr)
            return 1
    return 0


sys.exit(asyncio.run(main()))
