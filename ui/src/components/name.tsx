/** A user's text in any script, isolated so that its direction does not affect the text around it. */

export function Name({ text }: { text: string }) {
  return <bdi class="name">{text}</bdi>;
}

export function Tags({ tags }: { tags: string[] }) {
  return (
    <>
      {tags.map((tag) => (
        <span class="tag" key={tag}>
          <bdi>{tag}</bdi>
        </span>
      ))}
    </>
  );
}
