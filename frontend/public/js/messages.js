// @ts-check
/** Every sentence that the scripts put on the page, and how numbers are written. */

/** @typedef {import("./api.js").Assessment} Assessment */

const LOCALE = "en";

/**
 * @param {number} value 0..1
 * @param {number} [digits] after the point; by default one below 10%, else none
 */
export function percent(value, digits = value < 0.0995 ? 1 : 0) {
  if (value > 0 && value < 0.001) return "below 0.1%";
  if (value < 1 && value > 0.995) return "above 99%";
  return new Intl.NumberFormat(LOCALE, { style: "percent", minimumFractionDigits: 0, maximumFractionDigits: digits }).format(value);
}

/** @param {number} value */
export function number(value) {
  return new Intl.NumberFormat(LOCALE, { maximumSignificantDigits: 4 }).format(value);
}

/** @param {number} size */
export function bytes(size) {
  if (size < 1_000_000) return `${number(Math.max(1, Math.round(size / 1000)))} kB`;
  // rounded up beyond a limit: "20 MB received, 20 MB allowed" would explain nothing
  const megabytes = size > 20_000_000 ? Math.ceil(size / 100_000) / 10 : Math.round(size / 100_000) / 10;
  return `${megabytes} MB`;
}

/** The share of malignant lesions that a probability assumes, in words. @param {number} prevalence */
export function outOfHundred(prevalence) {
  const total = prevalence < 0.095 ? 1000 : 100;
  const count = Math.max(1, Math.round(prevalence * total));
  return `${Math.abs(count / total - prevalence) < 1e-6 ? "" : "about "}${count} of ${total} lesions`;
}

/** @type {Record<string, {title: string, meaning: string, nextTitle: string, next: string[], whatever: string}>} */
export const VERDICTS = {
  suspicious: {
    title: "Suspicious",
    meaning: "The model sees what it has also seen in skin cancers. That is a reason to look closely, not a diagnosis: many spots that are judged so turn out to be harmless.",
    nextTitle: "What to do next",
    next: ["Have a doctor, preferably a dermatologist, examine the spot soon.", "Bring this picture, and say how long the spot has been there and how it has changed."],
    whatever: "",
  },
  low_suspicion: {
    title: "Low suspicion",
    meaning: "The estimate lies below the threshold. That is no all-clear: about one cancer in twenty looks like this to the model.",
    nextTitle: "What to do next",
    next: ["Keep an eye on the spot, and compare it with a new picture in some weeks."],
    whatever: "If the spot is new, changing, bleeding or worries you, see a doctor whatever this says.",
  },
  uncertain: {
    title: "Uncertain: the model takes no side",
    meaning: "From this picture it cannot be told whether the spot is suspicious. Treat it as not yet judged.",
    nextTitle: "What to do next",
    next: ["Take another picture: in focus, evenly lit, the lesion whole and in the middle.", "If the answer stays uncertain, have a doctor look at the spot."],
    whatever: "If the spot is new, changing, bleeding or worries you, see a doctor whatever this says.",
  },
  rejected: {
    title: "Not judged",
    meaning: "The model cannot judge this picture, so it gives no estimate. This says nothing about the spot itself.",
    nextTitle: "What to do next",
    next: [
      "Use a dermoscopic picture: taken through a dermatoscope, or a phone with a dermatoscope lens.",
      "Show one lesion, whole, in the middle, in focus and evenly lit.",
    ],
    whatever: "If the spot is new, changing, bleeding or worries you, see a doctor.",
  },
};

/** @type {Record<string, string>} */
export const QUALITY_NAMES = {
  sharpness: "Sharpness",
  brightness: "Brightness",
  contrast: "Contrast",
  underexposed: "Share that is black",
  overexposed: "Share that is white",
  glare: "Share under reflections",
  resolution: "Shorter side, in pixels",
};

/** What the server did to the picture, by code. @type {Record<string, string>} */
export const IMAGE_NOTES = {
  first_frame: "The file holds several frames or pages; the first one was judged.",
};

/**
 * Failures in words. `retry`: the same picture may be sent again.
 *
 * @type {Record<string, {title: string, text: string, retry?: boolean}>}
 */
export const PROBLEMS = {
  // the file, as seen here or by the server
  unsupported_type: {
    title: "This kind of file cannot be judged",
    text: "Choose a picture in JPEG, PNG, WebP, BMP, TIFF or GIF format.",
  },
  heic: {
    title: "HEIC and AVIF pictures cannot be judged",
    text: "Export the picture as JPEG and choose that. On an iPhone: Settings, Camera, Formats, “Most Compatible” makes the camera take JPEG pictures.",
  },
  too_large: {
    title: "The file is too large",
    text: "A picture may have up to 20 MB. Save it as JPEG, or cut away what surrounds the lesion, and choose it again.",
  },
  empty_file: { title: "The file is empty", text: "It holds no data. Choose the original picture." },
  undecodable: {
    title: "The picture is damaged",
    text: "The file could not be read as a picture. Open it on your device; if it shows, save it again as JPEG or PNG.",
  },
  truncated: {
    title: "The picture is incomplete",
    text: "The end of the file is missing, as after an interrupted copy or download. Copy it again from where it came from.",
  },
  too_small: {
    title: "The picture has too few pixels",
    text: "Its shorter side must have at least 100 pixels. Choose the original, not a thumbnail.",
  },
  too_many_pixels: {
    title: "The picture has too many pixels",
    text: "At most 50 megapixels can be judged. Shrink the picture, or cut away what surrounds the lesion.",
  },
  several_files: { title: "One picture at a time", text: "You chose several files. Choose the one that is to be judged." },
  no_picture: { title: "There was no picture in that", text: "What you dropped or pasted holds no picture file. Save the picture and choose the file." },
  unreadable_file: {
    title: "The file cannot be read",
    text: "It may be a folder, or it was moved or changed after you chose it. Choose it again.",
  },
  // the service
  rate_limited: { title: "Too many pictures in a short time", text: "The server limits how many pictures it takes. Wait a moment, then try again.", retry: true },
  overloaded: { title: "The service is busy", text: "More pictures arrived than can be judged at once. Nothing is wrong with yours; try again.", retry: true },
  no_model: { title: "The service is not ready", text: "No model can judge pictures at the moment. It may be starting; try again shortly.", retry: true },
  deadline: { title: "The answer took too long", text: "The server gave up before it had judged the picture. Try again.", retry: true },
  internal_error: { title: "The service failed", text: "An error happened while the picture was being judged. Try again; if it stays so, tell who runs this server.", retry: true },
  unauthorized: { title: "This page may not use the service", text: "The server asked for a key that was missing or wrong. Tell who runs this server." },
  unknown_model: { title: "The model is not there", text: "The server does not serve the model that was asked for. Tell who runs this server.", retry: true },
  not_found: { title: "The service was not found", text: "Nothing answers at its address. Tell who runs this server.", retry: true },
  method_not_allowed: { title: "The service refused the request", text: "Something between this page and the service changes requests. Tell who runs this server." },
  malformed_multipart: { title: "The picture arrived damaged", text: "The upload was changed or cut off on its way. Try again.", retry: true },
  missing_file: { title: "The picture did not arrive", text: "The server received a request without a picture. Try again.", retry: true },
  invalid_parameter: { title: "The service refused the request", text: "This page and the service do not fit together. Reload the page and try again.", retry: true },
  client_closed_request: { title: "The connection was closed", text: "The upload ended before it was complete. Try again.", retry: true },
  // the way there
  network: {
    title: "The service cannot be reached",
    text: "There is no connection to the server, or it is down. Check your network, then try again.",
    retry: true,
  },
  timeout: { title: "The upload took too long", text: "The connection is too slow for this picture. Try again, or use a smaller file.", retry: true },
  unexpected_answer: {
    title: "The answer cannot be understood",
    text: "The server answered in a way this page does not know, so nothing is shown. Reload the page and try again.",
    retry: true,
  },
};

/** @param {string} code */
export function problemText(code) {
  return PROBLEMS[code] ?? PROBLEMS.unexpected_answer;
}
