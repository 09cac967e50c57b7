// GraphiQL in headless Chromium: a query and a subscription, and no other host is asked.
import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const [url, key] = process.argv.slice(2);
const here = new URL(url);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const page = await browser.newPage();
// Several times what the slowest step takes on a busy machine.
page.setDefaultTimeout(120_000);
const elsewhere = [], wrong = [];
page.on("request", (request) => {
  const to = new URL(request.url());
  if (!["data:", "blob:"].includes(to.protocol) && to.host !== here.host) elsewhere.push(request.url());
});
page.on("websocket", (socket) => {
  if (new URL(socket.url()).host !== here.host) elsewhere.push(socket.url());
});
// Where the server requires a key, the page asks before it has one, and again with one that is revoked; when the browser
// reports that it was refused depends on the machine.
const report = (text) => {
  if (!key || !/status of 401|Socket closed with event 440[13]/.test(text)) wrong.push(text);
};
page.on("pageerror", (err) => report(err.message));
page.on("console", (message) => {
  if (message.type() === "error") report(message.text());
});
await page.goto(`${here.origin}/graphiql`);
await page.waitForSelector(".graphiql-execute-button");
await page.waitForSelector(".graphiql-query-editor .CodeMirror");

// The editor takes what is typed in a little later: its tab has the operation's name then.
async function run(name, text) {
  await page.evaluate((text) => document.querySelector(".graphiql-query-editor .CodeMirror").CodeMirror.setValue(text), text);
  await page.waitForFunction((name) => document.querySelector(".graphiql-tab-active")?.innerText.includes(name), name);
  await page.click(".graphiql-execute-button");
}
const result = () => page.evaluate(() => document.querySelector(".result-window")?.innerText ?? "");
const until = (wanted) =>
  page.waitForFunction((wanted) => document.querySelector(".result-window")?.innerText.includes(wanted), wanted);

const say = (key) =>
  page.evaluate((key) => {
    const editors = [...document.querySelectorAll(".graphiql-editors .CodeMirror")].filter((editor) => editor.offsetParent);
    editors.at(-1).CodeMirror.setValue(JSON.stringify({ Authorization: `Bearer ${key}` }));
  }, key);
const ask = async (query, variables) => {
  const headers = { "content-type": "application/json", authorization: `Bearer ${key}` };
  const answer = await fetch(url, { method: "POST", headers, body: JSON.stringify({ query, variables }) });
  return (await answer.json()).data;
};
if (key) {
  // Where the server knows who asks, the key is said in the tab "Headers"; the socket is told it, too.
  await page.click('button:has-text("Headers")');
  await say(key);
}
await run("Me", "query Me { viewer { role member { name } } }");
await until('"role": "ADMIN"');

await run("Live", 'subscription Live { events(filter: { kinds: ["record.created"] }) { kind recordId } }');
// Something happens while it listens, again and again until it shows.
const made = setInterval(() => {
  fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json", ...(key ? { authorization: `Bearer ${key}` } : {}) },
    body: JSON.stringify({ query: 'mutation { createRecord(input: { kind: "lead", name: "Seen" }) { record { id } } }' }),
  });
}, 300);
await until('"kind": "record.created"');
clearInterval(made);
assert.match(await result(), /record_/);
if (key) {
  // A subscription whose key is revoked says what is wrong; so does one that begins with such a key.
  const made = (await ask('mutation { createApiKey(input: { name: "short", role: VIEWER }) { key apiKey { id } } }')).createApiKey;
  await page.click(".graphiql-execute-button");
  await say(made.key);
  let sockets = 0;
  page.on("websocket", () => (sockets += 1));
  await run("Short", "subscription Short { events { kind } }");
  await page.waitForFunction(() => document.querySelector(".graphiql-execute-button")?.ariaLabel?.includes("Stop") || document.querySelector(".graphiql-spinner"));
  await ask("mutation($id: ID!) { revokeApiKey(input: { id: $id }) { apiKey { id } } }", { id: made.apiKey.id });
  await until("4403");
  assert.match(await result(), /key in Headers is missing, wrong or no longer/);
  const next = page.waitForEvent("websocket");
  await run("Again", "subscription Again { events { kind } }");
  await next;
  await until("4403");
  assert.ok(sockets <= 3, `${sockets} sockets`);
}
await browser.close();
assert.deepEqual(elsewhere, [], "another host was asked");
assert.deepEqual(wrong, [], "the page had errors");
console.log("GraphiQL works");
