use super::*;
use half::f16;

fn some() -> Vec<(&'static str, GgufValue)> {
    let list = |l| GgufValue::List(l);
    vec![
        ("a.u8", GgufValue::U8(200)),
        ("a.i8", GgufValue::I8(-3)),
        ("a.u16", GgufValue::U16(60_000)),
        ("a.i16", GgufValue::I16(-300)),
        ("a.u32", GgufValue::U32(1 << 31)),
        ("a.i32", GgufValue::I32(-70_000)),
        ("a.f32", GgufValue::F32(0.5)),
        ("a.bool", GgufValue::Bool(true)),
        ("a.text", GgufValue::Text("é\n".into())),
        ("a.u64", GgufValue::U64(u64::MAX)),
        ("a.i64", GgufValue::I64(i64::MIN)),
        ("a.f64", GgufValue::F64(1e300)),
        ("l.u8", list(GgufList::U8(vec![1, 2]))),
        ("l.f32", list(GgufList::F32(vec![0.25; 3]))),
        ("l.bool", list(GgufList::Bool(vec![true, false]))),
        ("l.text", list(GgufList::Text(["a", "", "bc"].into_iter().collect()))),
        ("l.i64", list(GgufList::I64(vec![-1]))),
        ("l.list", list(GgufList::List(vec![GgufList::U16(vec![1]), GgufList::U16(vec![])]))),
        ("l.none", list(GgufList::U32(vec![]))),
    ]
}

#[test]
fn what_is_saved_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    let arrays = [
        ("b", Array::from_slice(&[1.0f32, -2.0, 3.5], [3])),
        ("a", Array::from_slice(&[f16::from_f32(1.5); 6], [2, 3])),
        ("d.e", Array::from_slice(&[7i8, -7], [1, 2, 1, 1])),
        ("c", Array::from_slice(&[1i64 << 40], [1])),
    ];
    save_gguf(&path, arrays.iter().map(|(n, a)| (*n, a)), &some()).unwrap();
    let file = Gguf::open(&path).unwrap();
    assert_eq!(file.version(), 3);
    assert_eq!(file.names().collect::<Vec<_>>(), ["a", "b", "c", "d.e"]);
    for (name, array) in &arrays {
        let read = file.get(name).unwrap();
        assert_eq!(read.shape().unwrap(), array.shape().unwrap());
        assert_eq!(read.to_bytes().unwrap(), array.to_bytes().unwrap());
    }
    for (key, value) in &some() {
        assert_eq!(file.value(key), Some(value), "{key}");
    }
    assert_eq!(file.count("a.i8").unwrap_err().kind(), ErrorKind::Malformed);
    assert!(file.count("a.i8").unwrap_err().byte().is_some());
    assert_eq!(file.count("a.u8").unwrap(), Some(200));
    assert_eq!(file.text("none").unwrap(), None);
    assert_eq!(file.get("none").unwrap_err().kind(), ErrorKind::Missing);
    assert_eq!(file.quantized("a").unwrap_err().kind(), ErrorKind::Argument);
    assert_eq!(load_gguf(&path).unwrap().len(), 4);
}

#[test]
fn blocks_stay_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    for format in BlockFormat::ALL {
        let bytes: Vec<u8> = (0..format.bytes() * 6).map(|i| (i % 50) as u8).collect();
        let codes = Array::from_slice(&bytes, [3, 2 * format.bytes()]);
        let form = Quantization::Blocks(format);
        let w = Quantized { codes, scales: None, biases: None, global_scale: None, form };
        save_gguf_with(&path, [("w", GgufArray::Blocks(&w))], &[]).unwrap();
        let file = Gguf::open(&path).unwrap();
        let info = file.info("w").unwrap();
        assert_eq!(
            (info.kind().name(), info.shape()),
            (format.name(), &[3, 2 * format.elements()][..])
        );
        let read = file.quantized("w").unwrap();
        assert_eq!(read.form, form);
        assert_eq!(read.codes.to_bytes().unwrap(), bytes);
        assert_eq!(file.get("w").unwrap().dtype().unwrap(), DType::F16);
    }
}

#[test]
fn what_the_format_lacks_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    let one = Array::from_slice(&[1.0f32], [1]);
    save_gguf(&path, [("a", &one)], &[]).unwrap();
    let before = std::fs::read(&path).unwrap();
    for bad in [
        Array::scalar(1.0f32),
        Array::from_slice(&[1u8], [1]),
        Array::from_slice(&[1.0f32], [1, 1, 1, 1, 1]),
        Array::from_slice(&[0.0f32; 0], [0]),
    ] {
        let error = save_gguf(&path, [("a", &bad)], &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Argument, "{error}");
    }
    let one_key = |key| [(key, GgufValue::Bool(true))];
    assert!(save_gguf(&path, [("a", &one), ("a", &one)], &[]).is_err());
    assert!(save_gguf(&path, [("a", &one)], &one_key("")).is_err());
    assert!(save_gguf(&path, [("a", &one)], &one_key("general.alignment")).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), before);
}
