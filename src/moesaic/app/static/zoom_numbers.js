// Numbers that more than one part of the zoom needs.

/** The first pixel whose centre lies at or beyond a place: neighbours share it, so that they neither overlap nor gape. */
export const firstPixel = (place) => Math.ceil(place - 0.5);

export const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
