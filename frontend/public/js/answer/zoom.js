// @ts-check
/**
 * Zooms and pans the content of a frame by wheel, two fingers, double click and keys. Everything in the pane
 * moves together. While the whole picture is visible, scrolling scrolls the page.
 */

const MOST = 8;
const STEP = 1.5;
const DOUBLE_CLICK = 2.5;
const KEY_PAN = 0.12; // of the frame
/** Milliseconds; wheel events closer together than this are one movement. */
const ONE_TURN = 250;

/** @param {WheelEvent} event @returns {number} pixels */
const turnOf = ({ deltaY, deltaMode }) => deltaY * (deltaMode === 1 ? 32 : deltaMode === 2 ? 400 : 1);

export class Zoom {
  scale = 1;
  /** Position of the pane's top left corner, in widths and heights of the frame. */
  #x = 0;
  #y = 0;
  /** @type {Map<number, {x: number, y: number}>} */
  #pointers = new Map();
  /** When the wheel last scrolled the page, and when it last zoomed. */
  #scrolledAt = -ONE_TURN;
  #turnedAt = -ONE_TURN;

  /**
   * @param {HTMLElement} frame that shows a part of the pane
   * @param {HTMLElement} pane of the same size
   * @param {() => void} changed
   */
  constructor(frame, pane, changed) {
    this.frame = frame;
    this.pane = pane;
    this.changed = changed;
    frame.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    window.addEventListener(
      "wheel",
      (event) => event.defaultPrevented || (this.#scrolledAt = event.timeStamp),
      {
        passive: true,
      },
    );
    frame.addEventListener("dblclick", (event) => {
      event.preventDefault();
      if (this.scale > 1) this.whole();
      else this.#glide(() => this.#at(event.clientX, event.clientY, DOUBLE_CLICK));
    });
    frame.addEventListener("pointerdown", (event) => this.#down(event));
    // two fingers zoom, and one pans an enlarged picture: neither scrolls the page
    const take = (/** @type {TouchEvent} */ event) => {
      if (event.cancelable && (event.touches.length > 1 || this.scale > 1)) event.preventDefault();
    };
    frame.addEventListener("touchmove", take, { passive: false });
  }

  /** Whether two fingers are down. */
  get pinching() {
    return this.#pointers.size > 1;
  }

  in() {
    this.#glide(() => this.#byMiddle(STEP));
  }

  out() {
    this.#glide(() => this.#byMiddle(1 / STEP));
  }

  whole() {
    this.#glide(() => this.reset());
  }

  /** Back to the whole picture, without animation. */
  reset() {
    this.#set(1, 0, 0);
  }

  /** @param {number} across @param {number} down steps by which the visible part moves */
  pan(across, down) {
    this.#glide(() => this.#set(this.scale, this.#x - KEY_PAN * across, this.#y - KEY_PAN * down));
  }

  /**
   * @param {string} key
   * @returns {boolean} whether it is a key for zooming or panning
   */
  key(key) {
    const acts = /** @type {Record<string, () => void>} */ ({
      "+": () => this.in(),
      "=": () => this.in(),
      "-": () => this.out(),
      0: () => this.whole(),
      ...(this.scale > 1
        ? {
            ArrowLeft: () => this.pan(-1, 0),
            ArrowRight: () => this.pan(1, 0),
            ArrowUp: () => this.pan(0, -1),
            ArrowDown: () => this.pan(0, 1),
          }
        : {}),
    });
    acts[key]?.();
    return key in acts;
  }

  /**
   * Animates a step made by a single press, unless the reader prefers reduced motion.
   * @param {() => void} step
   */
  #glide(step) {
    this.pane.classList.add("glide");
    step();
  }

  /** @param {number} factor */
  #byMiddle(factor) {
    const { left, top, width, height } = this.frame.getBoundingClientRect();
    this.#at(left + width / 2, top + height / 2, factor);
  }

  /**
   * Zooms around a point, which stays in place.
   *
   * @param {number} left
   * @param {number} top
   * @param {number} factor
   */
  #at(left, top, factor) {
    const box = this.frame.getBoundingClientRect();
    const [x, y] = [(left - box.left) / box.width, (top - box.top) / box.height];
    const scale = Math.min(MOST, Math.max(1, this.scale * factor));
    const by = scale / this.scale;
    this.#set(scale, x - (x - this.#x) * by, y - (y - this.#y) * by);
  }

  /** @param {number} scale @param {number} x @param {number} y */
  #set(scale, x, y) {
    this.scale = scale < 1.005 ? 1 : scale;
    const least = 1 - this.scale;
    this.#x = Math.min(0, Math.max(least, x));
    this.#y = Math.min(0, Math.max(least, y));
    const whole = this.scale === 1;
    this.pane.style.transform = whole
      ? ""
      : `translate(${100 * this.#x}%, ${100 * this.#y}%) scale(${this.scale})`;
    this.frame.style.setProperty("--zoom", String(this.scale));
    this.frame.toggleAttribute("data-zoomed", !whole);
    this.changed();
  }

  /** @param {WheelEvent} event */
  #wheel(event) {
    const turn = turnOf(event);
    // leave a scroll in progress to the page
    const scrolling = event.timeStamp - this.#scrolledAt < ONE_TURN;
    // zooming out must not continue as scrolling the page
    const shrinking = event.timeStamp - this.#turnedAt < ONE_TURN;
    if (!event.ctrlKey && !shrinking && this.scale === 1 && (turn >= 0 || scrolling)) return;
    event.preventDefault();
    this.#turnedAt = event.timeStamp;
    this.pane.classList.remove("glide");
    this.#at(event.clientX, event.clientY, Math.exp(-turn * (event.ctrlKey ? 0.01 : 0.002)));
  }

  /** @param {PointerEvent} down */
  #down(down) {
    if (down.button !== 0) return;
    const { pointerId } = down;
    this.#pointers.set(pointerId, { x: down.clientX, y: down.clientY });
    this.pane.classList.remove("glide");
    const listening = new AbortController();
    const { signal } = listening;
    const moved = (/** @type {PointerEvent} */ event) => event.pointerId === pointerId && this.#move(event);
    window.addEventListener("pointermove", moved, { signal });
    for (const end of ["pointerup", "pointercancel"]) {
      window.addEventListener(
        end,
        (event) => {
          if (/** @type {PointerEvent} */ (event).pointerId !== pointerId) return;
          this.#pointers.delete(pointerId);
          listening.abort();
        },
        { signal },
      );
    }
  }

  /** @param {PointerEvent} event of a pointer that is down */
  #move({ pointerId, clientX: x, clientY: y }) {
    const before = this.#pointers.get(pointerId);
    if (!before) return;
    this.#pointers.set(pointerId, { x, y });
    const { width, height } = this.frame.getBoundingClientRect();
    const other = [...this.#pointers].find(([id]) => id !== pointerId)?.[1];
    if (other) {
      const apart = (/** @type {{x: number, y: number}} */ one) =>
        Math.hypot(one.x - other.x, one.y - other.y);
      this.#at((x + other.x) / 2, (y + other.y) / 2, apart({ x, y }) / Math.max(1, apart(before)));
      // the midpoint of two fingers moves half as far as the moving one
      this.#set(this.scale, this.#x + (x - before.x) / 2 / width, this.#y + (y - before.y) / 2 / height);
    } else if (this.scale > 1) {
      this.#set(this.scale, this.#x + (x - before.x) / width, this.#y + (y - before.y) / height);
    }
  }
}
