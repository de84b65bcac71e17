// The arithmetic of nbs/01_figures.ipynb; a test holds both to 1e-9.

/** A curve with two valleys, the left one deeper. */
export const valley = (x) => 0.25 * x ** 4 - x ** 2 + 0.3 * x;

/** Its slope. */
export const valleySlope = (x) => x ** 3 - 2 * x + 0.3;
