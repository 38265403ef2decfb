/** When a job runs, as it was written. */

export function Schedule({ schedule, timezone }: { schedule: string | null; timezone: string }) {
  if (!schedule) return <span class="quiet">by hand only</span>;
  return (
    <span class="schedule">
      <code>{schedule}</code>
      {timezone && timezone !== "UTC" && <span class="quiet"> {timezone}</span>}
    </span>
  );
}
