// The demo in headless Chromium, as a visitor meets it: the live window shows changes again and again, and goes on while
// tabs change in the first window, where one click starts a flight.
import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const here = new URL(process.argv[2]);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
// Windows of one browser share what it stores.
const context = await browser.newContext();
const wrong = [];
// A click that comes within a moment of a change of tabs still runs the former tab's operation: GraphiQL's own habit.
await context.exposeFunction("wentWrong", (text) => text.includes("the document has no operation") || wrong.push(text));
await context.addInitScript(() => {
  addEventListener("error", (event) => window.wentWrong(String(event.message)));
  addEventListener("unhandledrejection", (event) => window.wentWrong(event.reason?.message ?? JSON.stringify(event.reason)));
});
const page = await context.newPage();
const shown = (window, ...texts) =>
  window.waitForFunction(
    (texts) => texts.every((text) => document.querySelector(".result-window .CodeMirror")?.CodeMirror.getValue().includes(text)),
    texts,
    { timeout: 30_000 },
  );
const result = (window) =>
  window.evaluate(() => JSON.parse(document.querySelector(".result-window .CodeMirror").CodeMirror.getValue()));
const open = (tab) => page.click(`.graphiql-tab >> nth=${tab - 1}`);
// Clicks until it has run.
async function execute(tab, ...texts) {
  await open(tab);
  for (let i = 0; i < 15; i += 1) {
    await page.click(".graphiql-execute-button");
    const came = await page
      .waitForFunction((texts) => texts.every((text) => document.querySelector(".result-window .CodeMirror")?.CodeMirror.getValue().includes(text)), texts, { timeout: 2_000 })
      .catch(() => null);
    if (came) return;
  }
  assert.fail(`tab ${tab} did not show ${texts}`);
}

await page.goto(`${here.origin}/graphiql`);
await page.waitForSelector(".graphiql-tab >> nth=6", { timeout: 30_000 });
// The second tab says where to go.
await open(2);
const editor = await page.evaluate(() => document.querySelector(".graphiql-query-editor .CodeMirror").CodeMirror.getValue());
assert.match(editor, /second window/);
assert.match(editor, /\?live/);
const [second] = await Promise.all([context.waitForEvent("page"), page.click("text=Live in a second window")]);
// It runs without a click, and something changes again and again.
const cursors = new Set();
for (let i = 0; i < 4; i += 1) {
  await shown(second, "Slow flight", '"cursor"');
  const cursor = (await result(second)).data.stepStatusChanged.cursor;
  cursors.add(cursor);
  await second.waitForFunction((cursor) => !document.querySelector(".result-window .CodeMirror")?.CodeMirror.getValue().includes(cursor), cursor, { timeout: 30_000 });
}
assert.ok(cursors.size >= 3, "it stands still");
// One click starts a flight; the other window shows it, while tabs change in this one.
await execute(3, '"ready": true', '"name": "Your own flight"');
await execute(1, '"totalCount"', "Your own flight");
await shown(second, "Your own flight");
// What the window's reload begins with is the live tab alone; the first window has kept its seven.
await second.reload();
await shown(second, '"cursor"');
assert.equal(await second.locator(".graphiql-tab").count(), 1);
await page.reload();
await page.waitForSelector(".graphiql-tab >> nth=6", { timeout: 30_000 });
assert.equal(await page.locator(".graphiql-tab").count(), 7);
await browser.close();
assert.deepEqual(wrong, [], "a page had errors");
console.log("the demo can be watched");
