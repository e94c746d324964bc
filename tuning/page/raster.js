// Thousands of polylines as pixels, darker where more of them go: stroked as paths they would take the
// browser seconds, and be one blot. In CSS pixels, whatever the screen has.
const CLEAR_LINES = 300;

class Raster {
  constructor({ width, height }) {
    this.image = new ImageData(width, height);
    this.cover = new Uint32Array(width * height);
  }

  // A line from (x0, y0) to (x1, y1), x0 < x1, within the surface: in each column a pixel's worth,
  // parted between two. In whole numbers (256 are a pixel), for speed.
  line(x0, y0, x1, y1) {
    const { cover } = this;
    const wide = this.image.width;
    const [begin, end] = [Math.round(x0), Math.round(x1)];
    const step = Math.round((256 * (y1 - y0)) / (end - begin));
    let height = Math.round(256 * (y0 - 0.5));
    for (let x = begin; x < end; x++, height += step) {
      const part = height & 255;
      const at = (height >> 8) * wide + x;
      cover[at] += 256 - part;
      cover[at + wide] += part;
    }
  }

  // All lines since the last call become one layer of a colour (#rrggbb) over what there is, at most as
  // opaque as `alpha`. Of `count` lines side by side one alone is fainter, the more they are.
  paint(colour, alpha, count) {
    const { cover } = this;
    const { data } = this.image;
    const strength = Math.min(8, CLEAR_LINES / count) / 256;
    const own = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
    for (let at = 0; at < cover.length; at++) {
      if (!cover[at]) continue;
      const dense = strength * cover[at];
      const above = (alpha * dense) / (1 + dense);
      const below = (data[4 * at + 3] / 255) * (1 - above);
      const whole = above + below;
      for (let i = 0; i < 3; i++) data[4 * at + i] = (own[i] * above + data[4 * at + i] * below) / whole;
      data[4 * at + 3] = 255 * whole;
    }
    cover.fill(0);
  }

  // Draws the layers over what stands on the surface.
  show(pen) {
    const { width, height } = this.image;
    const canvas = new OffscreenCanvas(width, height);
    canvas.getContext("2d").putImageData(this.image, 0, 0);
    pen.drawImage(canvas, 0, 0);
  }
}
