// Numbers as the other pages write them (suite/reading/units.py).
const DASH = "–";
const short = (value) =>
  value.toLocaleString("en", decimals(Math.abs(value) < 9.995 ? 2 : Math.abs(value) < 99.95 ? 1 : 0));
const decimals = (digits) => ({ minimumFractionDigits: digits, maximumFractionDigits: digits });
const prefixed = (value, unit) => {
  for (const [prefix, size] of [["", 1], ["m", 1e-3], ["µ", 1e-6], ["n", 1e-9]])
    if (Math.abs(value) >= 0.9995 * size) return `${short(value / size)} ${prefix}${unit}`;
  return `${short(value / 1e-12)} p${unit}`;
};
const WRITTEN = {
  word: (word) => word,
  plain: (value) => String(value),
  seconds: (value) => prefixed(value, "s"),
  joules: (value) => prefixed(value, "J"),
  share: (value) => `${Math.round(100 * value)} %`,
  percent: (value) => `${Number((100 * value).toFixed(value > 0.9895 ? 3 : 1))} %`,
  count: (value) =>
    value === Infinity ? "never" : Number(Math.max(1, value).toPrecision(2)).toLocaleString("en"),
  times: (value) =>
    value < 0.0995 ? `${Number(value.toPrecision(2))}x`
    : value < 0.995 ? `${value.toFixed(2)}x`
    : value < 9.95 ? `${value.toFixed(1)}x`
    : `${value.toLocaleString("en", decimals(0))}x`,
};
