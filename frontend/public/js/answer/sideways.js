// @ts-check
/** Drags a dividing line over a picture. */

const SIDEWAYS = 6; // pixels

/**
 * Follows a pointer once it moves sideways: neither a tap nor scrolling over the picture moves the line.
 *
 * @param {PointerEvent} down
 * @param {HTMLElement} area that is divided
 * @param {{before: number, stop?: () => boolean, move: (share: number) => void}} line `before`: its
 *   position, in percent of the area's width; `stop`: whether to stop following
 */
export function pullSideways(down, area, { before, stop = () => false, move }) {
  const touch = down.pointerType === "touch";
  const { left, width } = area.getBoundingClientRect();
  const listening = new AbortController();
  const { signal } = listening;
  let sideways = false;
  const follow = (/** @type {PointerEvent} */ { clientX, clientY }) => {
    const [dx, dy] = [clientX - down.clientX, clientY - down.clientY];
    sideways ||= Math.abs(dx) > SIDEWAYS && Math.abs(dx) > Math.abs(dy);
    if (stop()) listening.abort();
    if (!sideways || signal.aborted) return;
    // a finger hides what it points at, so the line moves with it instead of jumping to it
    move(Math.round(touch ? before + (100 * dx) / width : (100 * (clientX - left)) / width));
  };
  window.addEventListener("pointermove", follow, { signal });
  for (const end of ["pointerup", "pointercancel"]) {
    window.addEventListener(end, () => listening.abort(), { signal });
  }
}
