// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC1967Proxy} from "@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol";
import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";
import {Hashes} from "@openzeppelin/contracts/utils/cryptography/Hashes.sol";

import {DemoDollar} from "../src/DemoDollar.sol";
import {ISettlementLedger} from "../src/ISettlementLedger.sol";
import {LedgerTest} from "./LedgerTest.sol";
import {StoppableToken} from "./Tokens.sol";
import {Tree} from "./Tree.sol";
import {vm} from "./Vm.sol";

/// @notice Measures what GAS.md says. Every call is a transaction of its own; proofs are 17 deep, as of 131,072 accounts.
/// forge-config: default.isolate = true
contract GasTest is LedgerTest {
    uint256 private constant DEPTH = 17;
    uint256 private constant BATCH = 50;
    uint256 private constant TRANSACTION = 21_000;

    DemoDollar private dollar;

    function setUp() public override {
        vm.chainId(1);
        vm.warp(START);
        dollar = new DemoDollar(address(this));
        use(dollar);
        dollar.mint(address(ledger), MONEY);
    }

    function test_post() public {
        activate(payoutsAt(1, 1));
        claimOne(1, payoutsAt(1, 1)); // A ledger in use: no slot of its own is written for the first time.
        bytes32 head = ledger.head();
        uint64 end = uint64(block.timestamp);
        bytes memory call = abi.encodeCall(
            ledger.post, (2, head, keccak256("w"), keccak256("p"), keccak256("m"), end - 1, end, 1e6, 1e6)
        );
        snapshot("post", execution(POSTER, call));
    }

    function test_attest() public {
        activate(payoutsAt(1, 1));
        post(bytes32("root"), 1e6);
        snapshot("attest", execution(AUDITOR, abi.encodeCall(ledger.attest, (2, ledger.head()))));
    }

    function test_dispute() public {
        activate(payoutsAt(1, 1));
        post(bytes32("root"), 1e6);
        bytes memory call = abi.encodeCall(ledger.dispute, (2, ledger.head()));
        snapshot("dispute, whole transaction", transaction(GUARDIAN, call));
    }

    function test_dispute_of_an_attested_post() public {
        activate(payoutsAt(1, 1));
        attest(post(bytes32("root"), 1e6));
        bytes memory call = abi.encodeCall(ledger.dispute, (2, ledger.head()));
        snapshot("dispute of an attested post, whole transaction", transaction(GUARDIAN, call));
    }

    function test_claim() public {
        measureClaims("");
    }

    function test_claim_of_a_proxied_token() public {
        bytes memory init = abi.encodeCall(StoppableToken.mint, (address(this), 1));
        StoppableToken proxied = StoppableToken(address(new ERC1967Proxy(address(new StoppableToken()), init)));
        use(proxied);
        proxied.mint(address(ledger), MONEY);
        measureClaims(", proxied token");
    }

    function test_claimMany() public {
        address ahead = address(0xFF);
        activate(payoutsOf(ahead, 1)); // Someone has claimed before, so that the ledger's own slots are in use.
        ledger.claim(ahead, 1, 1, new bytes32[](0));
        Payouts memory first = payoutsAt(1e6, BATCH);
        uint256 one = activateDeep(first);
        snapshot("claimMany of 50, per first leaf", execution(ANYONE, batchCall(one, first)) / BATCH);
        Payouts memory second = payoutsAt(2e6, BATCH);
        uint256 two = activateDeep(second);
        snapshot("claimMany of 50, per repeated leaf", execution(ANYONE, batchCall(two, second)) / BATCH);
    }

    function measureClaims(string memory suffix) internal {
        // Two accounts, so that the ledger's own slots are in use before the measured one claims for the first time.
        Payouts memory first = payoutsAt(1e6, 2);
        uint256 one = activateDeep(first);
        ledger.claim(first.accounts[1], one, first.cumulatives[1], deepProofOf(first, 1));
        snapshot(string.concat("claim, first", suffix), execution(ANYONE, claimCall(one, first)));
        Payouts memory second = payoutsAt(2e6, 2);
        uint256 two = activateDeep(second);
        snapshot(string.concat("claim, repeated", suffix), execution(ANYONE, claimCall(two, second)));
    }

    // ---------------------------------------------------------------------------------------------- Measuring

    function snapshot(string memory name, uint256 gas) internal {
        vm.snapshotValue("Gas", name, gas);
    }

    /// @dev Gas of a whole transaction, its refund taken off.
    function transaction(address sender, bytes memory call) internal returns (uint256) {
        vm.prank(sender);
        (bool ok,) = address(ledger).call(call);
        vm.assertTrue(ok, "the measured call succeeds");
        return vm.lastCallGas().gasTotalUsed;
    }

    /// @dev Gas of a transaction less its base and its calldata (EIP-2028).
    function execution(address sender, bytes memory call) internal returns (uint256) {
        uint256 calldataGas = 0;
        for (uint256 i = 0; i < call.length; ++i) {
            calldataGas += call[i] == 0 ? 4 : 16;
        }
        return transaction(sender, call) - TRANSACTION - calldataGas;
    }

    // ------------------------------------------------------------------------------------------- Deep trees

    function use(IERC20Metadata token_) internal {
        ledger = deploy(token_, DELAY);
    }

    function payoutsAt(uint256 cumulative, uint256 count) internal pure returns (Payouts memory) {
        address[] memory accounts = new address[](count);
        uint256[] memory cumulatives = new uint256[](count);
        for (uint256 i = 0; i < count; ++i) {
            (accounts[i], cumulatives[i]) = (address(uint160(0xD000 + i)), cumulative);
        }
        return payoutsOf(accounts, cumulatives);
    }

    /// @dev Posts a root that lies so far above the tree's that every proof is at least 17 long.
    function activateDeep(Payouts memory payouts) internal returns (uint256 sequence) {
        bytes32 root = rootOf(payouts);
        for (uint256 i = proofOf(payouts, 0).length; i < DEPTH; ++i) {
            root = Hashes.commutativeKeccak256(root, siblingAt(i));
        }
        sequence = post(root, payouts.total + 1); // One unit is what {test_claimMany} has paid before.
        attest(sequence);
        wait(DELAY);
    }

    function deepProofOf(Payouts memory payouts, uint256 i) internal pure returns (bytes32[] memory proof) {
        bytes32[] memory low = proofOf(payouts, i);
        uint256 from = proofOf(payouts, 0).length;
        proof = new bytes32[](low.length + DEPTH - from);
        for (uint256 k = 0; k < proof.length; ++k) {
            proof[k] = k < low.length ? low[k] : siblingAt(k - low.length + from);
        }
    }

    function siblingAt(uint256 level) internal pure returns (bytes32) {
        return keccak256(abi.encode("sibling", level));
    }

    function claimCall(uint256 sequence, Payouts memory payouts) internal view returns (bytes memory) {
        return abi.encodeCall(
            ledger.claim, (payouts.accounts[0], sequence, payouts.cumulatives[0], deepProofOf(payouts, 0))
        );
    }

    function batchCall(uint256 sequence, Payouts memory payouts) internal view returns (bytes memory) {
        ISettlementLedger.Payout[] memory batch = batchOf(payouts);
        for (uint256 i = 0; i < batch.length; ++i) {
            batch[i].proof = deepProofOf(payouts, i);
        }
        return abi.encodeCall(ledger.claimMany, (sequence, batch));
    }

    function claimOne(uint256 sequence, Payouts memory payouts) internal {
        claim(sequence, payouts, 0);
    }
}
