//! Dequantisation, bit for bit, of blocks with random bytes. The values were computed by an independent NumPy
//! implementation in float64 and in float32, which agreed.

use tensor_formats::{ElementType, dequantize_row, reference};

struct Vector {
    ty: ElementType,
    /// The blocks, in hexadecimal.
    blocks: &'static str,
    /// FNV-1a (64 bits) of the values as little-endian f32.
    hash: u64,
    /// The bits of the first and of the last eight values.
    ends: [[u32; 8]; 2],
}

const VECTORS: [Vector; 6] = [
    Vector {
        ty: ElementType::F16,
        blocks: "00000080003c00c1ff7b0100ff03007c",
        hash: 0x369ea8204f0f3231,
        ends: [
            [
                0x0000_0000,
                0x8000_0000,
                0x3f80_0000,
                0xc020_0000,
                0x477f_e000,
                0x3380_0000,
                0x387f_c000,
                0x7f80_0000,
            ],
            [
                0x0000_0000,
                0x8000_0000,
                0x3f80_0000,
                0xc020_0000,
                0x477f_e000,
                0x3380_0000,
                0x387f_c000,
                0x7f80_0000,
            ],
        ],
    },
    Vector {
        ty: ElementType::Q4_0,
        blocks: "4c2248f03c28dc866d91b62c99a0ea47395980c311ca3133f19b0abb0915140b6756e11203000801ed52ecf58867412e\
         6c400929905c",
        hash: 0xea083e3e9f16370a,
        ends: [
            [
                0x0000_0000,
                0xbdc9_8000,
                0x3d49_8000,
                0x0000_0000,
                0x3d49_8000,
                0xbcc9_8000,
                0x3d7b_e000,
                0xbdb0_5000,
            ],
            [
                0xb540_0000,
                0xb590_0000,
                0xb4c0_0000,
                0xb540_0000,
                0xb5c0_0000,
                0xb590_0000,
                0x3440_0000,
                0xb510_0000,
            ],
        ],
    },
    Vector {
        ty: ElementType::Q8_0,
        blocks: "4c226ae4eb0eb3479ecafa42f5b50d7671321ee59205291f9fdad03f33a9c9857d800180bf682303235828f856124849\
         d0084ce1551935199ba9eb647dfca60d08eec76e",
        hash: 0xffbc47ef85444f67,
        ends: [
            [
                0x3fa6_de00,
                0xbeb0_5000,
                0xbe84_3c00,
                0x3e30_5000,
                0xbf72_6e00,
                0x3f5f_8a00,
                0xbf9a_4600,
                0xbf2a_0400,
            ],
            [
                0xb6fa_0000,
                0x3480_0000,
                0x36b4_0000,
                0xb550_0000,
                0xb500_0000,
                0x3590_0000,
                0x3664_0000,
                0xb6dc_0000,
            ],
        ],
    },
    Vector {
        ty: ElementType::Q4_K,
        blocks: "941b6725363fdd72075bf98c98a0e2a31c9e8d67f8c13e45812d89b3bf9c474dac93288eb58bc612f5536c367c3f760d\
         a91ba89da4b0b6ce4c4605e14ac734d00712edebd0d1450116a9cec4cc817e54033fc4a56f65ce16b42b5138595ecb77\
         5ea8ca447de5209ef8fdfee7607c118d0d463feffde05122feea4471324bd3b3f4efa0262090eb9cb243b9683030a977\
         050000be3686104c03fea2b390dc1bebeac9fd22d64d5c15791fd242b6340f25333917664a03ea60daa4f73b6e7e5c42\
         ea0d1f4d14eabf9d491e23d5ff50ceb1e826701acd6a32b4d8c65ca9a4651dc6a5fbb0362f49dc2c10b7e602186e0ebf\
         f1d9bb645e0ffd3e912676aac5743789b8704c80d43d9e385e7aa12335adeacffe87e455dff89e1b2ed756e67e634b6e",
        hash: 0x4b30ae7a9ddcb1f5,
        ends: [
            [
                0x4010_00c0,
                0x4029_9440,
                0x401c_ca80,
                0x3fa0_2000,
                0x3fb9_b380,
                0x3d55_6000,
                0x4029_9440,
                0x3f59_f200,
            ],
            [
                0x428a_0002,
                0x428a_000e,
                0x428a_0005,
                0x428a_000f,
                0x428a_0007,
                0x428a_0006,
                0x428a_0004,
                0x428a_0006,
            ],
        ],
    },
    Vector {
        ty: ElementType::Q5_K,
        blocks: "8723d52d7699b22be85e092ae7b45f9861fe325d00a5c76453d1e259991a1558b4401e9a2dae93e6ac4e8a1d17beaa3e\
         f7aeb4689bb304ebe783e7137785067864832c14852efe5354f20d26f25488174116043b88cad9adc219c735ccabd85e\
         d854a1004f57e3e81287ec5955bf5d85030129c02eb8b0dc809b94e7e391ffa44542706e32287606d188a737ea880a32\
         71141bde12efdb9da052d52c212fe52117cc5043ce4ec09e12e600b6256384d6e691317bdd47e35e11cb4ae3b69cac5f\
         22f37b628c7a2c6fe49f88eef3f045955dd530a909d339e30f7b927508df856e93f1f2434b16e084bd860c052ff21d38\
         d83c0d990af2cdb0c8c0c1fc7bb97f3e79b57ce09944ca777e4ec3b51402ea8624d8f678151d5c6513897e7bcb071e76\
         7f32cd1d3329c5db71a22fa9b90bed7f1abe729698dabcbd504fbe5c46e325cff4664ac4b1bd8fb1b48d4b131fff7064\
         cbd62e1edd781976b685e4575fa4f0fd",
        hash: 0x02dff9d8df01d9a0,
        ends: [
            [
                0x4169_d5b0,
                0x40ef_06c0,
                0xbef0_5800,
                0x4176_8980,
                0x40a2_cfe0,
                0x4137_0670,
                0x4143_ba40,
                0x40a2_cfe0,
            ],
            [
                0xca3e_9281,
                0xca3e_9281,
                0xca3e_9283,
                0xca3e_9280,
                0xca3e_9280,
                0xca3e_9282,
                0xca3e_9283,
                0xca3e_9281,
            ],
        ],
    },
    Vector {
        ty: ElementType::Q6_K,
        blocks: "77f10c7770603ba221e7aa77ee528ab2651acfe31e1b6a18bdf9d4587144effbd509eae44552384a39347d455e814672\
         d9c2adc6ceeccc4d0a52d2047ed1360a4140713246ba993e22ae0dfa9d5bb653a0c920edee633e93dbdce70a09ffce11\
         453d81ca367448eef2597545c112e632ad48c88fea268787cbd6ff6fba09335b4098472ff097005cfed4cf8183a740e9\
         9450799b22f4a4e3f3214bfd265c439cf5ce9584ecc79d4712b2e4bb0ad2a027ff771a60c0f62077a8090a72d411722b\
         2897cb85196b3e7faf1a8c8b44481412741383e74b044c18793f14ff10889d6e4da5a14577646785a16152d812ffbabb\
         36bf17f9e05fec81bfe4ae125988085423f6b3bec0638203bac010a30fc615bd0683f29da660f7abb013ca76d0411a53\
         79df6daf01755d90f8ffec8da9cd3fda3f20049aa3857327985b6035c4addbab0055a422279af7c31e4f62b13e3c961f\
         3e1102de4e7b67db40a0d3ea9563e25ed8e1bc5804ccf2859ea20015de4463180e62539d29d064386e141ac9905bffb2\
         4b85357dd7541e4a5238b9326deb8378cedf9120bdde17fea328b19d568ac3bb0e4b53fb",
        hash: 0x3f5c8cdcd9e872cb,
        ends: [
            [
                0xbf68_e900,
                0xbf90_6780,
                0x3f82_6e00,
                0x3f56_4700,
                0xbf95_1000,
                0x3f15_1000,
                0xbf43_a500,
                0xbf8b_bf00,
            ],
            [
                0xcbcd_fe60,
                0x4cb4_3e94,
                0x4c5f_28e8,
                0xcca3_140c,
                0xcc1a_7ec8,
                0x4c80_befc,
                0xcca3_140c,
                0xcc91_e984,
            ],
        ],
    },
];

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().map(|c| c.to_digit(16).expect("a hexadecimal digit")).collect();
    digits.chunks_exact(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

fn fnv1a(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[test]
fn dequantisation_matches_an_independent_implementation() {
    for Vector { ty, blocks, hash, ends } in &VECTORS {
        let src = bytes(blocks);
        let mut values = vec![0.0f32; src.len() / ty.block_bytes() * ty.block_elements()];
        dequantize_row(*ty, &src, &mut values).unwrap();
        let bits: Vec<u32> = values.iter().map(|x| x.to_bits()).collect();
        assert_eq!(bits[..8], ends[0], "{ty}");
        assert_eq!(bits[bits.len() - 8..], ends[1], "{ty}");
        assert_eq!(fnv1a(values.iter().flat_map(|x| x.to_le_bytes())), *hash, "{ty}");

        let mut exact = vec![0.0f64; values.len()];
        reference::dequantize_row_f64(*ty, &src, &mut exact).unwrap();
        for (value, exact) in values.iter().zip(exact) {
            assert_eq!(value.to_bits(), (exact as f32).to_bits(), "{ty}");
        }
    }
}
