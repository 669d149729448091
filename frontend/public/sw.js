// @ts-check
/**
 * Keeps the page at hand without a network: the check, the history and the privacy notice, in English and the
 * language in use.
 * A network is asked first, so nobody sees an old page while there is one. The API is never touched: no
 * picture, no answer is kept.
 */

const CACHE = "aiderm-page";
const SHELL = [
  "./",
  "manifest.json",
  "favicon.svg",
  "img/example-dermoscopic.svg",
  "img/example-ordinary.svg",
  "locales/en.json",
  "css/base.css",
  "css/page.css",
  "css/print.css",
  "js/main.js",
  "js/check.js",
  "js/i18n.js",
  "js/dom.js",
  "js/api.js",
  "js/service.js",
  "js/views.js",
  "js/worker.js",
  "js/intake/files.js",
  "js/intake/picker.js",
  "js/check/state.js",
  "js/check/adding.js",
  "js/check/samples.js",
  "js/check/sending.js",
  "js/check/view.js",
  "js/intake/bitmap.js",
  "js/intake/digest.js",
  "js/intake/types.js",
];
// Fetched when the page says that a picture was chosen or another part opened: a first visit shall cost
// little.
const REST = [
  "locales/answer/en.json",
  "css/picture.css",
  "css/result.css",
  "css/depth.css",
  "js/database.js",
  "js/csv.js",
  "js/served.js",
  "js/tables.js",
  "js/reader/form.js",
  "js/reader/mode.js",
  "js/reader/settings.js",
  "js/reader/store.js",
  "js/answer/abcde.js",
  "js/answer/after.js",
  "js/answer/brief.js",
  "js/answer/contours.js",
  "js/answer/depth.js",
  "js/answer/findings.js",
  "js/answer/frequency.js",
  "js/answer/heatmap.js",
  "js/answer/prevalence.js",
  "js/answer/problem-view.js",
  "js/answer/report.js",
  "js/answer/scale.js",
  "js/answer/sideways.js",
  "js/answer/spot.js",
  "js/answer/spot-add.js",
  "js/answer/verdict.js",
  "js/answer/words.js",
  "js/answer/zoom.js",
  "js/check/keys.js",
  "js/check/kept.js",
  "js/check/kept-item.js",
  "js/check/tab.js",
  "js/intake/looks.js",
  "js/intake/queue-list.js",
  "js/lesion/card.js",
  "js/lesion/correction.js",
  "js/lesion/drawing.js",
  "js/lesion/shape.js",
  "js/results/files.js",
  "js/results/table.js",
  "css/views.css",
  "js/history/keep.js",
  "js/history/store.js",
  "js/history/traced.js",
  "js/history/view.js",
  "js/history/edit.js",
  "js/history/fields.js",
  "js/history/compare.js",
  "js/history/findings.js",
  "js/history/measure.js",
  "js/history/overlay.js",
  "js/history/transfer.js",
  "js/history/zip.js",
  "js/views/privacy.js",
];
const PATIENCE_MS = 4_000; // on a network that hardly answers, what is kept is better than nothing

const worker = /** @type {any} */ (self);

worker.addEventListener("install", (/** @type {any} */ event) => {
  event.waitUntil(keep(SHELL).then(() => worker.skipWaiting()));
});

worker.addEventListener("message", (/** @type {any} */ event) => {
  if (event.data === "rest") event.waitUntil(keep(REST));
});

worker.addEventListener("activate", (/** @type {any} */ event) => {
  event.waitUntil(
    caches
      .keys()
      .then((names) =>
        Promise.all(
          names
            .filter((name) => name.startsWith("aiderm-") && name !== CACHE)
            .map((name) => caches.delete(name)),
        ),
      )
      .then(() => worker.clients.claim()),
  );
});

worker.addEventListener("fetch", (/** @type {any} */ event) => {
  const { request } = event;
  const scope = new URL(worker.registration.scope);
  const url = new URL(request.url);
  const path = url.pathname.slice(scope.pathname.length);
  if (request.method !== "GET" || url.origin !== scope.origin || !url.pathname.startsWith(scope.pathname))
    return;
  const ofThePage =
    path === "" || /^(index\.html|manifest\.json|favicon\.svg|(css|js|img|locales)\/.+)$/.test(path);
  if (ofThePage)
    event.respondWith(
      fresh(request, path === "" || path === "index.html" ? new URL("./", scope).href : request.url),
    );
});

/** @param {string[]} paths */
async function keep(paths) {
  const cache = await caches.open(CACHE);
  // as the page has just fetched them, so that nothing is transferred twice
  return cache.addAll(paths.map((path) => new Request(path, { cache: "force-cache" })));
}

/**
 * @param {Request} request
 * @param {string} key the page has one entry, whatever its query
 */
async function fresh(request, key) {
  const cache = await caches.open(CACHE);
  const kept = await cache.match(key);
  const asked = fetch(request).then((response) => {
    if (response.ok && response.type === "basic") cache.put(key, response.clone());
    return response;
  });
  if (!kept) return asked;
  asked.catch(() => {});
  const late = new Promise((resolve) => setTimeout(() => resolve(kept), PATIENCE_MS));
  return Promise.race([asked.catch(() => kept), late]);
}
