// Format: numbers, units and times as the reader's locale writes them.

import { agentNow } from "./live.js";

const locales = navigator.languages;
const number = (options) => {
  const format = new Intl.NumberFormat(locales, options);
  return (value) => (value === null || value === undefined ? "–" : format.format(value));
};

export const count = number({});
export const rate = number({ minimumFractionDigits: 1, maximumFractionDigits: 1 });
export const milliseconds = number({ style: "unit", unit: "millisecond", maximumSignificantDigits: 3 });
export const celsius = number({ style: "unit", unit: "celsius", maximumFractionDigits: 0 });
const megabyte = number({ style: "unit", unit: "megabyte", maximumFractionDigits: 0 });
export const megabytes = (bytes) => megabyte(bytes / 1e6);

export const percent = number({ style: "percent", maximumFractionDigits: 0 });
const nearOne = number({ style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
/** 99.6 % must not read as certain. */
export const score = (value) => (value >= 0.995 && value < 1 ? nearOne(Math.min(value, 0.999)) : percent(value));

const clock = new Intl.DateTimeFormat(locales, { timeStyle: "medium" });
const dayAndClock = new Intl.DateTimeFormat(locales, { dateStyle: "medium", timeStyle: "short" });

/** The time of day, or the date too if it was another day. */
export function moment(iso) {
  const date = new Date(iso);
  const sameDay = date.toDateString() === new Date(agentNow()).toDateString();
  return (sameDay ? clock : dayAndClock).format(date);
}

const UNITS = [
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
  ["second", 1],
];
/** Such as "3 hours", in the reader's language. */
export function duration(seconds) {
  const [unit, length] = UNITS.find(([, each]) => seconds >= each) ?? UNITS.at(-1);
  return number({ style: "unit", unit, unitDisplay: "long" })(Math.floor(seconds / length));
}
