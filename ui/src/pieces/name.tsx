/** Text that people wrote, of any script, kept from turning the words around it. */

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
